"""How many tokens a call and its answer are."""

from typing import Any

from .answers import Answer
from .call import Call, count_tokens


def counted(call: Call, answer: Answer) -> tuple[int, int]:
    """Tokens of the prompt and of the answer."""
    said = call.text + "".join(name + arguments for message in call.messages for name, arguments in message.calls)
    answered = answer.text + "".join(name + arguments for name, arguments in answer.calls)
    return max(count_tokens(said), 1), max(count_tokens(answered), 1)


def chat_usage(call: Call, answer: Answer) -> dict[str, Any]:
    """As a chat completion reports it."""
    prompt, completion = counted(call, answer)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }


def responses_usage(call: Call, answer: Answer) -> dict[str, Any]:
    """As a response reports it."""
    prompt, completion = counted(call, answer)
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }
