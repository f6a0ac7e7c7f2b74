"""Region proposals from outside a network: selective search, kept on disk, or read from a file.

OpenCV's contrib module loads with the first search; the extra `proposals` installs it.
"""

from kzoo.proposals.cache import cache_folder, search_images
from kzoo.proposals.files import read_file, write_file
from kzoo.proposals.selective_search import MODES, search_batch, selective_search

__all__ = ["MODES", "cache_folder", "read_file", "search_batch", "search_images", "selective_search", "write_file"]
