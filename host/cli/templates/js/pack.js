// `--show-pack-output` and all errors show what `console.log` writes. To report errors, import
// `fail`, `invalidParam`, `invalidFile` or `reject` from "./lmstrix_pack.js".

export default {
  summary: "{{summary}}",
{{#resolver}}
  prompts: {
    greet: {
      summary: "Writes a greeting",
      params: {
        name: { summary: "the person to greet", required: true },
        style: { summary: "the style of the greeting", default: "friendly" },
      },
      // Returns one user message, or an object with `messages` (or `raw`), `settings`
      // (`{ temperature: 0.2, topK: 5, stop: ["END"] }`), `post` (names of processors, or
      // `{ name, options }`), `extension` and `warnings`. Also receives `files`, a Map with
      // `files.text(name)` and `files.json(name)`, `model`, `extra` and `attachments`. With
      // `anyParams: true` the prompt takes parameters that are not declared.
      resolve({ params }) {
        return `Write a ${params.style} greeting for ${params.name}.`;
      },
    },
  },
{{/resolver}}
{{#processor}}
  processors: {
    upper: {
      summary: "Converts the answer to upper case",
      // Returns the processor of one answer. Receives `options`, `prompt`, `params`, `files`,
      // `model`, `extra` and `attachments`.
      open() {
        return {
          // Returns what can go out now: a text, or `{ text, done: true }` to end the answer.
          push: (chunk) => chunk.toUpperCase(),
          // `finish(stop)` can return text that was held back, or `{ tail, warnings }`.
        };
      },
    },
  },
{{/processor}}
};
