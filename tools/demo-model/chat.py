"""Formats a task as ChatML: the template, and the token ids."""

import bpe

TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def prompt_ids(tokenizer, prompt, system=None):
    start, end = tokenizer.ids[bpe.IM_START], tokenizer.ids[bpe.IM_END]
    messages = [("system", system)] if system is not None else []
    messages.append(("user", prompt))
    ids = []
    for role, content in messages:
        ids += [start, *tokenizer.encode(f"{role}\n{content}"), end, *tokenizer.encode("\n")]
    return [*ids, start, *tokenizer.encode("assistant\n")]


def answer_ids(tokenizer, answer):
    return [*tokenizer.encode(answer), tokenizer.ids[bpe.IM_END]]
