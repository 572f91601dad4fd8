// A prompt pack in JavaScript: the prompt `ask`, which summarizes a text, and the processors
// `quote` and `stamp`.
//
// It implements the world `pack` of wit/prompts.wit. The exports below are the interfaces
// and functions of that file in camel case. A function with a `result` returns the value or
// throws the error. Build it with
//
//     componentize-qjs --sync --wit wit --world pack --js pack.js --output js.wasm
//
// `--sync`, because the host does not support the asynchronous part of the component model.

const text = {
  name: "text",
  summary: "the text to summarize",
  required: true,
  default: null,
  extra: [],
};

const ask = {
  name: "ask",
  summary: "Summarizes the text in one sentence, as a quotation",
  params: [text],
  extra: [],
};

const quote = {
  name: "quote",
  summary: "Adds `> ` before every line",
  options: [],
  extra: [],
};

const stamp = {
  name: "stamp",
  summary: "Adds a line at the end",
  options: [
    {
      name: "with",
      summary: "the text of the line",
      required: true,
      default: null,
      extra: [],
    },
  ],
  extra: [],
};

export const catalog = {
  describe(_files) {
    return {
      summary: "A pack in JavaScript",
      prompts: [ask],
      processors: [quote, stamp],
      extra: [],
    };
  },
};

export const resolver = {
  resolve({ prompt, params }) {
    if (prompt !== ask.name) {
      throw { tag: "unknown-prompt", val: [ask.name] };
    }
    const param = params.find(({ key }) => key === text.name);
    if (!param) {
      throw { tag: "missing-params", val: [text.name] };
    }
    // The exact text of the stock prompt `tldr`, including the final newline: the demo model
    // was trained on it.
    const content =
      "Summarize the text below in one short sentence. " +
      `Answer with that sentence and nothing else.\n\n${param.value}\n`;
    return {
      input: {
        tag: "chat",
        val: [{ role: "user", content, attachments: [], extra: [] }],
      },
      settings: [],
      post: [{ name: quote.name, options: [] }],
      extension: "md",
      warnings: [],
      extra: [],
    };
  },
};

/** Adds `> ` before every line. */
class Quote {
  atLineStart = true;

  push(chunk) {
    let out = "";
    for (const char of chunk) {
      // The mark is added with the first character of a line, because a chunk that ends with
      // a newline may be the last one.
      if (this.atLineStart) out += "> ";
      out += char;
      this.atLineStart = char === "\n";
    }
    return out;
  }

  finish() {
    return "";
  }
}

/** Passes the text through and adds a line at its end. */
class Stamp {
  atLineStart = true;

  constructor(line) {
    this.line = line;
  }

  push(chunk) {
    // An empty chunk changes nothing.
    if (chunk !== "") this.atLineStart = chunk.endsWith("\n");
    return chunk;
  }

  finish() {
    return this.atLineStart ? this.line : `\n${this.line}`;
  }
}

/** Returns the implementation of a processor. */
function createProcessor(name, options) {
  const value = (key) => options.find((option) => option.key === key)?.value;
  switch (name) {
    case quote.name:
      return new Quote();
    case stamp.name: {
      const line = value("with");
      if (line === undefined) {
        // A tuple is an array.
        throw { tag: "invalid-param", val: ["with", "required"] };
      }
      return new Stamp(line);
    }
    default:
      throw { tag: "unknown-processor", val: [quote.name, stamp.name] };
  }
}

/** The resource of the contract: one instance per answer. */
class Processor {
  static open({ processor, options }) {
    return new Processor(createProcessor(processor, options));
  }

  constructor(implementation) {
    this.implementation = implementation;
  }

  push(chunk) {
    return { text: this.implementation.push(chunk), done: false };
  }

  finish(_reason) {
    return { tail: this.implementation.finish(), warnings: [], extra: [] };
  }
}

export const postProcessor = { Processor };
