"""The README's Python runs as printed, and its links lead somewhere."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_python_blocks_run_in_order_and_print_what_they_say(capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
    assert len(blocks) == 3
    namespace: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, "README.md", "exec"), namespace)
    printed = capsys.readouterr().out.splitlines()
    for line, block in ((0, blocks[0]), (2, blocks[2])):
        assert printed[line] == re.findall(r"print\(.*\)  # (.*)", block)[0]
    assert printed[1] == "{'image': 16, 'video': 26} {'video': 10, 'image': 10}"


def test_links_lead_to_files():
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", README):
        assert (ROOT / target).exists(), target


def test_the_quick_start_holds_two_bash_blocks():
    section = README.split("## Quick start")[1].split("\n## ")[0]
    blocks = re.findall(r"^```bash\n(.*?)^```", section, re.S | re.M)
    assert len(blocks) == 2
    assert "ivmix sample" in blocks[0]
    assert "python -m pytest" in blocks[1]
