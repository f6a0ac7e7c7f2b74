"""XML files of strangers: read without DTDs and entities."""

from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml import ElementTree as SafeElementTree


def root_of(path: Path) -> Element:
    """The root element of a file.

    Raises:
        ValueError: saying what is wrong with a file that cannot be read, or holds a DTD or entities.
    """
    try:
        return SafeElementTree.parse(path, forbid_dtd=True).getroot()
    except DefusedXmlException as error:
        raise ValueError("holds a DTD or entities, which are refused") from error
    except (ParseError, OSError, ValueError, LookupError) as error:
        raise ValueError(f"not a readable XML file ({error})") from error
