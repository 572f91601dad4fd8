// Exports the pack of pack.js as the functions of the contract. The build starts with this file.

import { check, entries, list, mistake, oneOf, record, similar, texts } from "./lmstrix_checks.js";
import { errorText, Files, PackError } from "./lmstrix_pack.js";

const SETTINGS = {
  temperature: "number",
  topK: "u32",
  topP: "number",
  minP: "number",
  repeatPenalty: "number",
  presencePenalty: "number",
  frequencyPenalty: "number",
  seed: "u64",
  maxTokens: "u32",
  stop: "text",
  jsonSchema: "text",
  reasoning: "text",
  other: "object",
};

const pack = await load();
const prompts = pack.prompts ?? {};
const processors = pack.processors ?? {};
const contents = built(describe);

async function load() {
  // A static import would hide the file and the line of an error.
  const loaded = await import("./pack.js").catch((error) => endBuild(errorText(error)));
  return loaded.default ?? endBuild("pack.js must have `export default { … }`");
}

function built(action) {
  try {
    return action();
  } catch (error) {
    endBuild(error instanceof PackError ? `pack.js: ${error.message}` : errorText(error));
  }
}

function endBuild(message) {
  const error = new Error(message);
  error.stack = "";
  throw error;
}

export const catalog = { describe: () => contents };

export const resolver = {
  resolve(request) {
    const found = lookUp(prompts, request.prompt, "unknown-prompt");
    return attempt(() => resolved(found.resolve(received(request))));
  },
};

class Processor {
  static open(context) {
    const found = lookUp(processors, context.processor, "unknown-processor");
    return attempt(() => new Processor(found.open(received(context))));
  }

  constructor(implementation) {
    const known = check("object", implementation, "the processor that `open` returns");
    check("function", known.push, "`push` of the processor that `open` returns");
    check("function", known.finish ?? (() => {}), "`finish` of the processor that `open` returns");
    this.implementation = known;
  }

  push(chunk) {
    return attempt(() => pushed(this.implementation.push(chunk)));
  }

  finish(stop) {
    return attempt(() => outcome(this.implementation.finish?.(stop)));
  }
}

export const postProcessor = { Processor };

/** Throws what the runtime converts to an error of the contract. */
function attempt(action) {
  try {
    return action();
  } catch (error) {
    if (error instanceof PackError) throw error.contract;
    throw { tag: "other", val: ["javascript", errorText(error)] };
  }
}

function lookUp(items, name, tag) {
  if (Object.hasOwn(items, name)) return items[name];
  throw { tag, val: similar(name, Object.keys(items)) };
}

// From the contract to plain values.

function received({ params, options, files, model, extra, prompt }) {
  return {
    prompt,
    params: fromEntries(params),
    options: fromEntries(options ?? []),
    files: new Files(files.map(({ name, text }) => [name, text])),
    model: model ? { ...model, extra: fromEntries(model.extra) } : null,
    extra: fromEntries(extra),
    attachments: extra.filter(({ key }) => key === "attachment").map(({ value }) => value),
  };
}

function fromEntries(entries) {
  const values = Object.create(null);
  for (const { key, value } of entries) values[key] = value;
  return values;
}

// From plain values to the contract.

function describe() {
  record(pack, ["summary", "prompts", "processors"], "the pack");
  return {
    summary: check("text", pack.summary ?? "", "summary"),
    prompts: items("prompts", "params", "resolve"),
    processors: items("processors", "options", "open"),
    extra: [],
  };
}

function items(kind, inputs, action) {
  return Object.entries(check("object", pack[kind] ?? {}, kind)).map(([name, item]) => {
    const field = `${kind}.${name}`;
    record(item, ["summary", "anyParams", inputs, action], field);
    const anyParams = check("boolean", item.anyParams ?? false, `${field}.anyParams`);
    check("function", item[action], `${field}.${action}`);
    return {
      name,
      summary: check("text", item.summary ?? "", `${field}.summary`),
      [inputs]: inputInfos(item[inputs] ?? {}, `${field}.${inputs}`),
      extra: anyParams ? [{ key: "any-params", value: "true" }] : [],
    };
  });
}

function inputInfos(inputs, field) {
  return Object.entries(check("object", inputs, field)).map(([name, input]) => {
    const at = `${field}.${name}`;
    record(input, ["summary", "required", "default"], at);
    const { summary = "", required = false, default: value = null } = input;
    return {
      name,
      summary: check("text", summary, `${at}.summary`),
      required: check("boolean", required, `${at}.required`),
      default: value === null ? null : check("text", value, `${at}.default`),
      extra: [],
    };
  });
}

function resolved(returned) {
  const field = "the result of `resolve`";
  const known = ["messages", "raw", "settings", "post", "extension", "warnings"];
  const userMessage = (content) => ({ messages: [{ role: "user", content }] });
  const request = record(expand(returned, userMessage, field), known, field);
  const { extension = null } = request;
  return {
    input: input(request),
    settings: settings(request.settings ?? {}),
    post: list(request.post, "post", processorRef),
    extension: extension === null ? null : check("text", extension, "extension"),
    warnings: texts(request.warnings, "warnings"),
    extra: [],
  };
}

/** Converts a string that an author may return instead of an object. */
function expand(returned, fromText, field) {
  return typeof returned === "string" ? fromText(returned) : check("result", returned, field);
}

function input({ messages, raw }) {
  if ((messages === undefined) === (raw === undefined)) {
    mistake("the result of `resolve` must have either `messages` or `raw`");
  }
  if (raw !== undefined) return { tag: "raw", val: check("text", raw, "raw") };
  return { tag: "chat", val: list(messages, "messages", message) };
}

function message(value, field) {
  const { role, content, attachments } = record(value, ["role", "content", "attachments"], field);
  return {
    role: oneOf(role, ["system", "user", "assistant"], `${field}.role`),
    content: check("text", content, `${field}.content`),
    attachments: texts(attachments, `${field}.attachments`),
    extra: [],
  };
}

function settings(values) {
  record(values, Object.keys(SETTINGS), "settings");
  return Object.entries(values).flatMap(([name, value]) => {
    return value === undefined ? [] : setting(name, value, `settings.${name}`);
  });
}

function setting(name, value, field) {
  const tag = name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  const one = (val) => [{ tag, val }];
  if (name === "other") return entries(value, field).flatMap(one);
  if (name === "stop") return texts([value].flat(), field).flatMap(one);
  if (name === "maxTokens" && value === null) return one(null);
  if (name === "reasoning") return one(oneOf(value, ["off", "on", "low", "medium", "high"], field));
  const schema = name === "jsonSchema" && value !== null && typeof value === "object";
  return one(check(SETTINGS[name], schema ? JSON.stringify(value) : value, field));
}

function processorRef(value, field) {
  const ref = typeof value === "string" ? { name: value } : value;
  const { name, options } = record(ref, ["name", "options"], field);
  return {
    name: check("text", name, `${field}.name`),
    options: entries(options, `${field}.options`),
  };
}

function pushed(returned) {
  const field = "the result of `push`";
  const result = record(
    expand(returned, (text) => ({ text }), field),
    ["text", "done"],
    field,
  );
  const { text = "", done = false } = result;
  return {
    text: check("text", text, `text in ${field}`),
    done: check("boolean", done, `done in ${field}`),
  };
}

function outcome(returned = "") {
  const field = "the result of `finish`";
  const result = record(
    expand(returned, (tail) => ({ tail }), field),
    ["tail", "warnings"],
    field,
  );
  const { tail = "", warnings } = result;
  return {
    tail: check("text", tail, `tail in ${field}`),
    warnings: texts(warnings, `warnings in ${field}`),
    extra: [],
  };
}
