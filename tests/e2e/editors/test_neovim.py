"""The plugin in a real Neovim: type, see ghost text, accept, and the text is right."""

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from flex_assist.language import LANGUAGES
from flex_assist.repository.containers import EXTENSIONS

PLUGIN = Path(__file__).parents[3] / "lsp" / "editors" / "neovim"
WAIT_S = 15.0
MODEL_WAIT_S = 90.0

SETUP = """
local plugin, command, settings = ...
vim.opt.runtimepath:prepend(plugin)
vim.o.swapfile = false
require('flex_assist').setup({ cmd = command, settings = settings })
"""
# The text of all marks that Neovim shows as a suggestion.
GHOST = """
local names = vim.api.nvim_get_namespaces()
local space = names['nvim.lsp.inline_completion']
if not space then return '' end
local shown = {}
for _, mark in ipairs(vim.api.nvim_buf_get_extmarks(0, space, 0, -1, { details = true })) do
  local lines = { mark[4].virt_text or {} }
  vim.list_extend(lines, mark[4].virt_lines or {})
  for index, line in ipairs(lines) do
    local pieces = vim.tbl_map(function(piece) return piece[1] end, line)
    lines[index] = table.concat(pieces)
  end
  shown[#shown + 1] = table.concat(lines, '\\n')
end
return table.concat(shown, '|')
"""
READY = """
local client = vim.lsp.get_clients({ name = 'flex_assist' })[1]
return client ~= nil and client.initialized == true
"""
# What Neovim logs of answers; what a server writes to standard error is logged there as well.
LOGGED_ERRORS = """
local found = {}
for _, line in ipairs(vim.fn.readfile(vim.lsp.log.get_filename())) do
  if line:find('[ERROR]', 1, true) and not line:find('"stderr"', 1, true) then
    found[#found + 1] = line
  end
end
return found
"""


def until(what: str, look: Callable[[], Any], wait_s: float = WAIT_S) -> Any:
    """What ``look`` gives, as soon as it gives something."""
    end = time.monotonic() + wait_s
    while time.monotonic() < end:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(f"{what} did not come in {wait_s:g} s")


@pytest.fixture
def start(neovim: str, neovim_class: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Starts Neovim with the plugin and one file."""
    editors: list[Any] = []
    names = ("XDG_STATE_HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
    private = {name: str(tmp_path / name) for name in (*names, "FLEX_ASSIST_HOME")}

    def starter(
        command: list[str], file: Path, settings: dict[str, Any] | None = None, **environment: str
    ) -> Any:
        editor = neovim_class(neovim, {**private, **environment})
        editors.append(editor)
        chosen = settings or {"completion": {"debounceMs": 0}}
        editor.lua(SETUP, str(PLUGIN), command, chosen)
        editor.call("nvim_command", f"edit {file}")
        until("the server", lambda: editor.lua(READY))
        return editor

    yield starter
    for editor in editors:
        editor.close()


FLOATING = """
for _, window in ipairs(vim.api.nvim_list_wins()) do
  if vim.api.nvim_win_get_config(window).relative ~= '' then
    return vim.api.nvim_buf_get_lines(vim.api.nvim_win_get_buf(window), 0, -1, false)
  end
end
return {}
"""
REPORT_OPENED = """
local text = table.concat(vim.api.nvim_buf_get_lines(0, 0, -1, false), '\\n')
return text:find('"completions"') ~= nil and text:find('x = 1') == nil
"""


def ghost(editor: Any) -> str:
    """The suggestion on the screen."""
    return str(editor.lua(GHOST))


def test_ghost_text_is_accepted_with_tab(
    start: Callable[..., Any], scripted_command: list[str], tmp_path: Path
) -> None:
    file = tmp_path / "a.py"
    editor = start(scripted_command, file)
    editor.type("ix = 1")
    assert until("ghost text", lambda: ghost(editor)) == f" # x = 1|\n|{file.as_posix()}"
    assert editor.lines() == ["x = 1"]
    editor.type("<Tab>")
    until("the text", lambda: len(editor.lines()) == 2)
    editor.type("<Esc>")
    editor.call("nvim_command", "write")
    assert file.read_text() == f"x = 1 # x = 1|\n|{file.as_posix()}\n"
    why: dict[str, Any] = until("why", lambda: ask_why(editor))
    assert (why["outcome"], why["accepted"]) == ("shown", True)
    editor.lua("require('flex_assist').again(function(why) vim.g.again = why end)")
    again: dict[str, Any] = until("an answer", lambda: editor.lua("return vim.g.again"))
    assert (again["repeats"], again["completion"]["text"]) == (why["id"], why["completion"]["text"])
    editor.call("nvim_command", "FlexAssist why")
    shown = until("the window", lambda: editor.lua(FLOATING))
    assert "adapter: base; scripted (python)" in shown
    editor.call("nvim_command", "FlexAssist report")
    until("the report", lambda: editor.lua(REPORT_OPENED))
    assert editor.lua("return require('flex_assist').status()") == "python: base (scripted)"
    assert editor.lua(LOGGED_ERRORS) == []


def ask_why(editor: Any) -> Any:
    """What the plugin's `why` answers."""
    editor.lua("require('flex_assist').why(function(why) vim.g.why = why end)")
    return until("an answer", lambda: editor.lua("return vim.g.why"))


def test_columns_after_wide_characters_are_right(
    start: Callable[..., Any], scripted_command: list[str], tmp_path: Path
) -> None:
    editor = start(scripted_command, tmp_path / "a.py")
    editor.type("iz = '\u2028\U0001f600é✓'<CR>naïvé")
    shown = until("ghost text", lambda: ghost(editor))
    assert shown.startswith(" # naïvé|")
    editor.type("<Tab>")
    until("the text", lambda: len(editor.lines()) == 3)
    assert "\n".join(editor.lines()[1:]) == f"naïvé{shown}"


def test_a_superseded_answer_leaves_no_error(
    start: Callable[..., Any], scripted_command: list[str], tmp_path: Path
) -> None:
    log = tmp_path / "cancelled"
    editor = start(scripted_command, tmp_path / "a.py", SCRIPTED_LOG=str(log))
    editor.type("islow")
    time.sleep(0.5)
    editor.type("<BS><BS><BS><BS>quick")
    assert until("ghost text", lambda: ghost(editor)).startswith(" # quick|")
    assert log.read_text() == "cancelled slow\n"
    editor.type("<Esc>onothing")
    until("no ghost text", lambda: ghost(editor) == "")
    assert editor.lua(LOGGED_ERRORS) == []


def test_tab_stays_tab_where_there_is_nothing(
    start: Callable[..., Any], scripted_command: list[str], tmp_path: Path
) -> None:
    editor = start(scripted_command, tmp_path / "a.py")
    editor.call("nvim_command", "set noexpandtab")
    editor.type("inothing<Tab>")
    until("a tab", lambda: editor.line() == "nothing\t")
    # A snippet's next place is Neovim's own use of the key.
    editor.type("<Esc>")
    editor.lua("vim.cmd.startinsert(); vim.snippet.expand('f(${1:nothing}, ${2:nothing})')")
    editor.type("<Tab>")
    until("the next place", lambda: editor.lua("return vim.snippet.active({direction=-1})"))


def test_the_plugin_knows_the_file_types_of_all_languages(neovim: str) -> None:
    endings = [ending for language in LANGUAGES for ending in language.extensions]
    # To Neovim a notebook is JSON.
    endings += [ending for ending, kind in EXTENSIONS.items() if kind != "notebook"]
    names = [f"a{ending}" for ending in endings]
    script = f"""
    vim.opt.runtimepath:prepend('{PLUGIN}')
    local known = require('flex_assist').filetypes
    for _, name in ipairs(vim.split('{" ".join(names)}', ' ')) do
      local found = vim.filetype.match({{ filename = name, contents = {{ '' }} }})
      if not vim.tbl_contains(known, found) then print(name, found) end
    end
    """
    said = subprocess.run(
        [neovim, "--clean", "--headless", "-c", f"lua {script}".replace("\n", " "), "-c", "qall"],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    assert said.stderr.strip() == ""


def test_the_starter_model_completes(
    start: Callable[..., Any], real_command: list[str], tmp_path: Path, home: Path
) -> None:
    file = tmp_path / "colours.py"
    file.write_text(
        "RED = 1\nGREEN = 2\nBLUE = 3\n\n\ndef is_red(colour):\n    return colour == RED\n"
    )
    settings = {"completion": {"timeoutS": MODEL_WAIT_S}}
    editor = start(real_command, file, settings, FLEX_ASSIST_HOME=str(home))
    editor.type("Go<CR><CR>def is_green(colour):<CR>return colour ==")
    shown = until("ghost text", lambda: ghost(editor), MODEL_WAIT_S)
    before = editor.lines()
    assert before[-1] == "    return colour =="
    editor.type("<Tab>")
    until("the text", lambda: editor.lines() != before)
    editor.type("<Esc>")
    editor.call("nvim_command", "write")
    assert file.read_text() == "\n".join(before) + shown + "\n"
    why = ask_why(editor)
    assert (why["completion"]["adapter"], why["surface"]) == ("base", "inline")
    assert why["completion"]["timings_ms"]["total"] > 0
