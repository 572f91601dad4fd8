// A prompt pack in JavaScript: the prompt `ask`, which sums a text up, and two
// processors, `quote` and `stamp`.
//
// It implements the world `pack` of wit/prompts.wit. The exports below are the
// interfaces and functions of that file, in camel case; a function gives a
// `result` by returning its value or throwing its error. Build it with
//
//     componentize-qjs --sync --stub-wasi --wit wit --world pack --js pack.js --output js.wasm
//
// The host calls in without the asynchronous part of the component model, hence
// `--sync`; a pack has no business with the system, hence `--stub-wasi`.

const text = {
  name: "text",
  summary: "what is summed up",
  required: true,
  default: null,
  extra: [],
};

const ask = {
  name: "ask",
  summary: "Sums the text up in one sentence, as a quotation",
  params: [text],
  extra: [],
};

const quote = {
  name: "quote",
  summary: "Puts `> ` before every line",
  options: [],
  extra: [],
};

const stamp = {
  name: "stamp",
  summary: "Puts a line of its own at the end",
  options: [
    {
      name: "with",
      summary: "the text of that line",
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
    const given = params.find(({ key }) => key === text.name);
    if (!given) {
      throw { tag: "missing-params", val: [text.name] };
    }
    // Word for word the stock prompt `tldr`, down to the line end: the demo
    // model was trained on exactly this message.
    const content =
      "Summarize the text below in one short sentence. " +
      `Answer with that sentence and nothing else.\n\n${given.value}\n`;
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

/** Quotes line by line; of what came before, only this is worth knowing. */
class Quote {
  atLineStart = true;

  push(chunk) {
    let out = "";
    for (const char of chunk) {
      // The mark waits for its line's first character: whether a line follows
      // a line end, the piece that ends with it cannot tell.
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

/** Lets everything through, and remembers whether its last line is complete. */
class Stamp {
  atLineStart = true;

  constructor(line) {
    this.line = line;
  }

  push(chunk) {
    // An empty piece ends nothing.
    if (chunk !== "") this.atLineStart = chunk.endsWith("\n");
    return chunk;
  }

  finish() {
    return this.atLineStart ? this.line : `\n${this.line}`;
  }
}

/** What goes through the text, by the processor's name. */
function work(name, options) {
  const value = (key) => options.find((it) => it.key === key)?.value;
  switch (name) {
    case quote.name:
      return new Quote();
    case stamp.name: {
      const line = value("with");
      if (line === undefined) {
        // A tuple is an array.
        throw { tag: "invalid-param", val: ["with", "it has to be given"] };
      }
      return new Stamp(line);
    }
    default:
      throw { tag: "unknown-processor", val: [quote.name, stamp.name] };
  }
}

/** The resource of the contract. State lives here, as each answer has its own. */
class Processor {
  static open({ processor, options }) {
    return new Processor(work(processor, options));
  }

  constructor(work) {
    this.work = work;
  }

  push(chunk) {
    return { text: this.work.push(chunk), done: false };
  }

  finish(_reason) {
    return { tail: this.work.finish(), warnings: [], extra: [] };
  }
}

export const postProcessor = { Processor };
