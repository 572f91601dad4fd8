"""Generates instruction paragraphs: the stock prompt, other wordings, random words."""

from sentences import SentenceMaker

STOCK = (
    "Summarize the text below in one short sentence. "
    "Answer with that sentence and nothing else."
)

REQUESTS = (
    "Summarize|Summarise|Sum up|Condense|Shorten|Briefly summarize|Please summarize|"
    "Please sum up|Can you summarize|Write a summary of|Give me a short summary of|"
    "Give the main point of|State the gist of|Tell me briefly about|Write a headline for|"
    "Read and summarize|Make a short version of|You will summarize|Provide a summary of"
).split("|")
OBJECTS = (
    "the text|this text|the following text|the text below|the text that follows|the article|"
    "this article|the passage|the message below|this message|the email|this note|it|"
    "the paragraph|the paragraph below|the report|what follows|the story|the document"
).split("|")
LIMITS = (
    "|in one sentence|in one short sentence|in a single sentence|briefly|in a few words|"
    "in at most one sentence|in one line|for a busy reader|in plain English|in simple words"
).split("|")
REMARKS = (
    "Answer with that sentence and nothing else.|Reply with the sentence only.|"
    "Write nothing else.|Do not explain.|Answer in one sentence.|Be brief.|Be concise.|"
    "No preamble.|Keep it short.|Do not add anything.|Use plain text.|Return only the summary.|"
    "Output the summary and nothing else.|Use one short sentence.|Just the sentence, please."
).split("|")
SHORT = (
    "tl;dr|TL;DR|Summary|Summary please|In short|Summarize|Summarize this|The text|Text|"
    "Main point|Short version|Give a short summary|Headline|Key point"
).split("|")
SYSTEM = (
    "You are a helpful assistant.|You are a helpful, concise assistant.|You summarize texts.|"
    "You are an editor.|Answer briefly.|You answer in one sentence."
).split("|")


def written(rng):
    """Returns an instruction in everyday wording."""
    if rng.random() < 0.2:
        return rng.choice(SHORT) + rng.choice(["", ".", ":", "?"])
    parts = [rng.choice(REQUESTS), rng.choice(OBJECTS), rng.choice(LIMITS)]
    first = " ".join(part for part in parts if part) + rng.choice([".", ".", ":"])
    remarks = [rng.choice(REMARKS) for _ in range(rng.choice([0, 0, 1, 1, 2]))]
    if rng.random() < 0.1 and remarks:
        return " ".join(remarks + [first])
    return " ".join([first] + remarks)


def random_words(rng):
    """Returns an instruction of random words. The answer must not depend on it."""
    maker = SentenceMaker(rng)
    sentences = [maker.sentence(longest=14) for _ in range(rng.randint(1, 3))]
    text = " ".join(sentences)
    if rng.random() < 0.15:
        text = text.rstrip(".!?\"") + ":"
    return text


def system_message(rng):
    return rng.choice(SYSTEM) if rng.random() < 0.6 else random_words(rng)
