// Checks of what a pack returns. Without them the runtime ends the call with a message that does
// not name the field.

import { fail } from "./lmstrix_pack.js";

const TYPES = {
  text: ["a string", (value) => typeof value === "string" && value.isWellFormed()],
  boolean: ["true or false", (value) => typeof value === "boolean"],
  number: ["a finite number", Number.isFinite],
  u32: ["an integer from 0 to 4294967295", (value) => integer(value) && value < 2 ** 32],
  u64: ["an integer from 0 to 2^53 - 1", integer],
  result: ["a string or an object", (value) => Object(value) === value],
  list: ["an array", Array.isArray],
  object: ["an object", (value) => Object(value) === value && !Array.isArray(value)],
  function: ["a function", (value) => typeof value === "function"],
};

function integer(value) {
  return Number.isSafeInteger(value) && value >= 0;
}

export function check(type, value, field) {
  const [expected, test] = TYPES[type];
  if (value instanceof Promise || !test(value)) {
    mistake(`${field} must be ${expected}, not ${named(value)}`);
  }
  return value;
}

export function mistake(message) {
  fail("javascript", message);
}

function named(value) {
  if (value instanceof Promise) return "a Promise (async functions are not supported)";
  if (Array.isArray(value)) return "an array";
  if (typeof value === "string") {
    const what = value.isWellFormed() ? "the string" : "a string with half of a surrogate pair,";
    return `${what} ${JSON.stringify(value.slice(0, 60))}`;
  }
  if (typeof value === "number") return `the number ${value}`;
  return value === null || typeof value !== "object" ? String(value).slice(0, 60) : "an object";
}

export function oneOf(value, names, field) {
  if (names.includes(value)) return value;
  mistake(`${field} must be one of ${names.join(", ")}, not ${named(value)}`);
}

/** Checks that a value is an object with no other keys than these. */
export function record(value, keys, field) {
  for (const key of Object.keys(check("object", value, field))) {
    if (keys.includes(key)) continue;
    const [close] = similar(key, keys);
    const hint = close ? `did you mean \`${close}\`?` : `known keys: ${keys.join(", ")}`;
    mistake(`${field} has the unknown key \`${key}\`; ${hint}`);
  }
  return value;
}

export function list(value, field, item) {
  return check("list", value ?? [], field).map((part, index) => item(part, `${field}[${index}]`));
}

export function texts(value, field) {
  return list(value, field, (part, at) => check("text", part, at));
}

/** Converts an object to entries. Numbers and booleans become text. */
export function entries(value, field) {
  return Object.entries(check("object", value ?? {}, field)).map(([key, part]) => {
    const text = ["number", "boolean"].includes(typeof part) ? String(part) : part;
    return { key, value: check("text", text, `${field}.${key}`) };
  });
}

/** Returns the names that differ from `name` in few letters. */
export function similar(name, names) {
  const plain = (text) => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const close = (other) => distance(plain(name), plain(other)) <= Math.max(1, other.length / 3);
  return names.filter(close);
}

function distance(left, right) {
  let row = Array.from({ length: right.length + 1 }, (_, index) => index);
  for (let i = 0; i < left.length; i++) {
    const next = [i + 1];
    for (let j = 0; j < right.length; j++) {
      next.push(Math.min(next[j] + 1, row[j + 1] + 1, row[j] + (left[i] === right[j] ? 0 : 1)));
    }
    row = next;
  }
  return row[right.length];
}
