"""Does the installed llama.cpp compute on this machine? Run as a process, for a bad build dies.

``python -m flex_assist.engine.trial [MODEL.gguf]``: exit code 0 and nothing said if it does.
"""

import signal
import subprocess
import sys
from pathlib import Path

from flex_assist.errors import EngineError, FlexAssistError
from flex_assist.processes import own_command

TIME_LIMIT_S = 60.0
# More tokens than one: prompts and answers are computed by different code.
PROMPT = range(1, 33)


def check(model: Path) -> None:
    """Read a prompt and write a token in a process of its own.

    Raises:
        EngineError: The process died or failed; says how, and what to do.
    """
    command = own_command("flex_assist.engine.trial", str(model))
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIME_LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise EngineError(
            f"llama.cpp read no prompt within {TIME_LIMIT_S:.0f} s; is the machine overloaded?"
        ) from error
    if done.returncode < 0:
        raise EngineError(
            f"the installed llama.cpp dies here ({_signal(-done.returncode)}): it was built for "
            "another processor, or by a compiler that does not get its code right. Build it "
            "again: pip install --force-reinstall --no-cache-dir --no-deps llama-cpp-python; on "
            "processors with AMX with CFLAGS and CXXFLAGS set to "
            "'-mno-amx-tile -mno-amx-int8 -mno-amx-bf16'"
        )
    if done.returncode:
        raise EngineError(done.stderr.strip()[-500:] or "llama.cpp failed without a word")


def run(model: Path) -> None:
    """Compute, in this process."""
    from flex_assist.engine.context import Context
    from flex_assist.engine.llama import Model

    loaded = Model.load(model)
    context = Context(loaded, (), 64, 2)
    context.extend([token % loaded.vocabulary_size for token in PROMPT])
    context.append(int(context.logits().argmax()))
    context.close()
    loaded.close()


def main() -> int:
    """The program."""
    from flex_assist import config
    from flex_assist.locations import locate
    from flex_assist.models import store

    try:
        run(
            Path(sys.argv[1]) if sys.argv[1:] else store.find(config.load(locate()).model.base).path
        )
    except FlexAssistError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


if __name__ == "__main__":
    sys.exit(main())
