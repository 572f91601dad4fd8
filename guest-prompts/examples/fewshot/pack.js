// Classifies texts after the examples in a JSON file: a list of { "text": …, "answer": … }.

import { invalidFile, reject } from "./lmstrix_pack.js";

const examples = {
  summary: "the file with the examples",
  default: "fewshot.json",
};

export default {
  summary: "Classifies texts after examples",
  prompts: {
    classify: {
      summary: "Answers a text as the examples do",
      params: { text: { summary: "the text to classify", required: true }, examples },
      resolve: classify,
    },
  },
  processors: {
    label: {
      summary: "Rejects an answer that is none of the examples' answers",
      options: { examples },
      open: ({ options, files }) => new Label(answers(read(files, options.examples))),
    },
  },
};

function classify({ params, files }) {
  const known = read(files, params.examples);
  console.log(`${known.length} examples in ${params.examples}`);
  const system = `Answer with one of these words and nothing else: ${answers(known).join(", ")}`;
  return {
    messages: [
      { role: "system", content: system },
      ...known.flatMap(({ text, answer }) => [
        { role: "user", content: text },
        { role: "assistant", content: answer },
      ]),
      { role: "user", content: params.text },
    ],
    settings: { temperature: 0 },
    post: [{ name: "label", options: { examples: params.examples } }],
    extension: "txt",
  };
}

function read(files, name) {
  const known = files.json(name);
  if (!Array.isArray(known)) invalidFile(name, "this must be a list of examples");
  known.forEach((example, index) => {
    if (typeof example?.text === "string" && typeof example.answer === "string") return;
    invalidFile(name, `example ${index + 1} must have the texts \`text\` and \`answer\``);
  });
  return known;
}

function answers(known) {
  return [...new Set(known.map(({ answer }) => answer))];
}

/** Replaces the answer with the label that it names. */
class Label {
  answer = "";

  constructor(labels) {
    this.labels = labels;
  }

  push(chunk) {
    this.answer += chunk;
    return "";
  }

  finish() {
    const same = (label) => label.toLowerCase() === this.answer.trim().toLowerCase();
    const expected = this.labels.join(", ");
    return this.labels.find(same) ?? reject(`the answer must be one of ${expected}`);
  }
}
