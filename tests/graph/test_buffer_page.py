"""The Python examples of docs/graph-buffer.md."""

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[2] / "docs" / "graph-buffer.md"


def test_the_examples_of_the_page_run_one_after_the_other(tmp_path):
    code = "\n".join(re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf8"), re.DOTALL))
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stderr
    assert "remote hits %" in done.stdout
