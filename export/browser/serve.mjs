// Serves the page, and the .tflite files of the folders given, on this machine:
//
//     npm ci && npm start -- FOLDER|FILE.tflite ... [--port 8000] [--host 127.0.0.1]
//
// Threads in the browser need two headers (COOP and COEP) and an address that is localhost or https.

import {createReadStream, existsSync, readdirSync, statSync} from "node:fs";
import {createServer} from "node:http";
import {basename, extname, join, normalize, sep} from "node:path";
import {fileURLToPath} from "node:url";
import {parseArgs} from "node:util";

const HERE = fileURLToPath(new URL(".", import.meta.url));
const TYPES = {
  ".html": "text/html; charset=utf-8",
  ".css": "text/css; charset=utf-8",
  ".js": "text/javascript; charset=utf-8",
  ".wasm": "application/wasm",
  ".tflite": "application/octet-stream",
};
const PAGE = ["index.html", "page.css", "page.js", "model.js", "pixels.js"];
const HEADERS = {
  "Cross-Origin-Opener-Policy": "same-origin",
  "Cross-Origin-Embedder-Policy": "require-corp",
  "Cross-Origin-Resource-Policy": "same-origin",
  "X-Content-Type-Options": "nosniff",
  "Cache-Control": "no-cache",
};

/** The .tflite files of folders and of single paths, by name; of two with one name the first counts. */
function findModels(paths) {
  const models = new Map();
  for (const path of paths) {
    if (!existsSync(path)) throw new Error(`${path}: no such file or folder.`);
    const files = statSync(path).isDirectory() ? readdirSync(path).sort().map((name) => join(path, name)) : [path];
    for (const file of files) {
      if (extname(file) === ".tflite" && !models.has(basename(file))) models.set(basename(file), file);
    }
  }
  if (!models.size) throw new Error(`${paths.join(", ")}: no .tflite file. Write one with kzoo export.`);
  return models;
}

/** The file that an address means, or null. */
function fileOf(address, models) {
  const path = decodeURIComponent(new URL(address, "http://localhost").pathname);
  if (path === "/") return join(HERE, "index.html");
  if (path.startsWith("/models/")) return models.get(path.slice("/models/".length)) ?? null;
  if (PAGE.includes(path.slice(1))) return join(HERE, path.slice(1));
  const file = normalize(join(HERE, path));
  return file.startsWith(join(HERE, "node_modules", "@litertjs") + sep) ? file : null;
}

/** The options and folders of the command line. */
function readArguments() {
  const {values, positionals} = parseArgs({
    options: {port: {type: "string", default: "8000"}, host: {type: "string", default: "127.0.0.1"}},
    allowPositionals: true,
  });
  if (!/^\d+$/.test(values.port) || Number(values.port) > 65535) {
    throw new Error(`--port ${values.port}: is no port. Give a number of 0 to 65535.`);
  }
  return {port: Number(values.port), host: values.host, paths: positionals};
}

function fail(error) {
  console.error(`error: ${error.message.split("\n")[0]}`);
  process.exit(2);
}

let given;
let models;
try {
  given = readArguments();
  if (!given.paths.length) {
    console.error("usage: npm start -- FOLDER|FILE.tflite ... [--port 8000] [--host 127.0.0.1]");
    process.exit(2);
  }
  models = findModels(given.paths);
} catch (error) {
  fail(error);
}

const server = createServer((request, response) => {
  const end = (status, type, body) => response.writeHead(status, {...HEADERS, "Content-Type": type}).end(body);
  if (request.method !== "GET" && request.method !== "HEAD") return end(405, "text/plain", "GET only\n");
  if (request.url === "/models.json") return end(200, "application/json", JSON.stringify([...models.keys()]));
  let file = null;
  try {
    file = fileOf(request.url, models);
  } catch {
    return end(400, "text/plain", "no such address\n");
  }
  if (!file || !existsSync(file) || !statSync(file).isFile()) return end(404, "text/plain", "not found\n");
  const type = TYPES[extname(file)] ?? "application/octet-stream";
  response.writeHead(200, {...HEADERS, "Content-Type": type, "Content-Length": statSync(file).size});
  if (request.method === "HEAD") return response.end();
  createReadStream(file).on("error", () => response.destroy()).pipe(response);
});
server.on("error", fail);
server.listen(given.port, given.host, () => {
  console.log(`http://${given.host === "127.0.0.1" ? "localhost" : given.host}:${server.address().port}/`);
});
