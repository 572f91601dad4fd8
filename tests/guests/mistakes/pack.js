// A pack with a mistake in each prompt and processor. The tests name these lines.

const mistakes = {
  typo: () => goood(),
  throw: () => {
    throw new Error("no such term");
  },
  log: () => {
    console.log("resolving", { prompt: "log" }, ["grün"]);
    return "Hello.";
  },
  content: () => ({ messages: [{ role: "user", content: 5 }] }),
  tag: () => ({ messages: [], settings: { temprature: 0.2 } }),
  setting: () => ({ messages: [], settings: { temperature: "hot" } }),
  range: () => ({ messages: [], settings: { topK: -1.5 } }),
  nothing: () => {},
  value: () => {
    throw { tag: "rejected" };
  },
  recursion: () => mistakes.recursion() + "",
  loop: () => {
    for (;;) {}
  },
  promise: async () => "Hello.",
};

export default {
  summary: "Mistakes",
  prompts: Object.fromEntries(
    Object.entries(mistakes).map(([name, resolve]) => [name, { resolve }]),
  ),
  processors: {
    push: { open: () => ({ push: () => 5 }) },
    missing: { open: () => ({ psh: () => "" }) },
  },
};
