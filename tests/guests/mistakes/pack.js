// A pack with a mistake in each prompt.

const mistakes = { typo, throw: throwError, log, tag, setting, loop };

export const catalog = {
  describe(_files) {
    const prompts = Object.keys(mistakes).map((name) => ({
      name,
      summary: "",
      params: [],
      extra: [],
    }));
    return { summary: "Mistakes", prompts, processors: [], extra: [] };
  },
};

export const resolver = {
  resolve({ prompt }) {
    return mistakes[prompt]();
  },
};

export const postProcessor = { Processor: class {} };

function good() {
  return {
    input: {
      tag: "chat",
      val: [{ role: "user", content: "Hello.", attachments: [], extra: [] }],
    },
    settings: [],
    post: [],
    extension: undefined,
    warnings: [],
    extra: [],
  };
}

// The tests name these lines.
function typo() {
  return goood();
}
function throwError() {
  throw new Error("no such term");
}
function log() {
  console.log("there is no console");
}
function tag() {
  return { ...good(), input: { tag: "chatt", val: [] } };
}
function setting() {
  return { ...good(), settings: [{ tag: "temperature", val: "hot" }] };
}
function loop() {
  for (;;) {}
}
