// What a pack can import: `reject` and the other functions that report errors. Also defines
// `console`, and the files that a pack receives.

import stderr from "wasi:cli/stderr@0.2.0";

/** An error of the contract. The functions below throw it. */
export class PackError extends Error {
  constructor(tag, val, message) {
    super(message);
    this.contract = { tag, val };
  }
}

/** Ends the call: the answer did not pass the processor's check. */
export function reject(reason) {
  throw new PackError("rejected", String(reason), reason);
}

/** Ends the call: a parameter or an option has an invalid value. */
export function invalidParam(name, reason) {
  throw new PackError("invalid-param", [String(name), String(reason)], reason);
}

/** Ends the call: a file has invalid content. Lines and columns start at 1. */
export function invalidFile(file, reason, line = null, column = null) {
  const count = (value) => (Number.isInteger(value) && value > 0 ? value : null);
  const place = { line: count(line), column: count(column) };
  const val = { file: String(file), ...place, message: String(reason) };
  throw new PackError("invalid-file", val, reason);
}

/** Ends the call with a stable error code and a message. */
export function fail(code, message) {
  throw new PackError("other", [String(code), String(message)], message);
}

const MISSING = "there is no such file beside the pack, and `--file` did not name it";

/** The files that the pack received: a Map from names to texts. */
export class Files extends Map {
  /** Returns the text of a file. A missing file ends the call. */
  text(name) {
    return this.get(name) ?? invalidFile(name, MISSING);
  }

  /** Returns the value of a JSON file. A missing file and invalid JSON end the call. */
  json(name) {
    const text = this.text(name).replace(/^\ufeff/, "");
    try {
      return JSON.parse(text);
    } catch (error) {
      const reason = error.message.replace(/ in JSON at position.*| at position.*/, "");
      invalidFile(name, `invalid JSON: ${reason}`, ...jsonPosition(text, error));
    }
  }
}

/** Returns the line and the column. QuickJS counts bytes, in the message or in the stack. */
function jsonPosition(text, { message, stack }) {
  const bytes = utf8(text);
  const offset = message.match(/at position (\d+)/)?.[1];
  const [, line, column] = stack.match(/<input>:(\d+):(\d+)/) ?? [];
  if (!offset && !line) return [];
  const before = bytes.slice(0, offset ?? bytes.length).split("\n");
  const row = offset ? before.length : Number(line);
  const start = offset ? before.at(-1) : before[row - 1].slice(0, column - 1);
  return [row, start.replace(/[\x80-\xbf]/g, "").length + 1];
}

/** Returns a string with one character per byte. */
function utf8(text) {
  return unescape(encodeURIComponent(text.toWellFormed()));
}

// QuickJS has no console. The host shows stderr with errors and with --show-pack-output.
globalThis.console = Object.fromEntries(
  ["log", "info", "warn", "error", "debug"].map((level) => [level, print]),
);

function print(...values) {
  const line = `${values.map(printed).join(" ")}\n`;
  const bytes = Uint8Array.from(utf8(line), (byte) => byte.charCodeAt(0));
  const stream = stderr.getStderr();
  for (let start = 0; start < bytes.length; start += 4096) {
    stream.blockingWriteAndFlush(bytes.slice(start, start + 4096));
  }
}

function printed(value) {
  if (typeof value === "string") return value;
  if (value instanceof Error) return errorText(value);
  const plain = (_key, part) => (part instanceof Map ? Object.fromEntries(part) : part);
  try {
    return JSON.stringify(value, plain) ?? String(value);
  } catch {
    return String(value);
  }
}

/** Returns the message and the stack of anything thrown, with the place in the first line. */
export function errorText(error) {
  if (!(error instanceof Error)) return `thrown: ${printed(error)}`;
  const frames = error.stack.split("\n").filter((line) => line && !line.includes("/lmstrix_"));
  const [place = "", ...callers] = frames;
  return [`${error} ${place.trim()}`.trim(), ...callers].join("\n");
}
