"""What a file's header says of its licence, and whether that keeps it out."""

from pathlib import Path

import pytest

from flex_assist.repository.documents import Objection
from flex_assist.repository.licences import (
    around,
    denied,
    of_folders,
    of_repository,
    of_text,
    own_licences,
)

DENIED = ("AGPL", "GPL", "SSPL", "BUSL", "CC-BY-NC")


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        ("# SPDX-License-Identifier: MIT\nx = 1\n", "MIT"),
        ("/* SPDX-License-Identifier: (GPL-2.0-only OR MIT) */", "(GPL-2.0-only OR MIT)"),
        ("// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception\n",
         "Apache-2.0 WITH LLVM-exception"),
        ("# under the terms of the GNU General\n# Public License version 3", "GPL"),
        ("/* GNU Lesser General\n * Public License */", "LGPL"),
        ("// Licensed under the Apache License, Version 2.0 (the", "Apache-2.0"),
        ("# Permission is hereby granted, free of charge, to", "MIT"),
        ("<!-- SPDX-License-Identifier: MIT -->", "MIT"),
        ("# SPDX-License-Identifier: MIT\n# SPDX-License-Identifier: GPL-2.0-only",
         "(MIT) AND (GPL-2.0-only)"),
        ("# SPDX-License-Identifier: AKIAQ7ZK2MXW9LR4TB8V\n", None),
        ("# SPDX-License-Identifier: MIT 9e107d9d372bb6826bd81d3542a419d6a1b2c3d4\n", "MIT"),
        ("# License: GPL-3.0-or-later\n", "GPL"), ("# released under the AGPL\n", "AGPL"),
        ("x = 1\n" * 100 + "# SPDX-License-Identifier: MIT\n", None),
        ("def licence():\n    return 1\n", None),
        ("", None),
    ],
)  # fmt: skip
def test_named_licence(text: str, licence: str | None) -> None:
    assert of_text(text) == licence


@pytest.mark.parametrize(
    ("expression", "own", "left_out"),
    [
        ("GPL-3.0-only", (), True), ("gpl-2.0", (), True), ("GPL", ("GPL",), False),
        ("GPL-3.0-only", ("GPL-3.0-or-later",), False), ("LGPL-2.1", (), False),
        ("GPL-2.0-only OR MIT", (), False), ("(GPL-2.0-only AND MIT)", (), True),
        ("(MIT OR Apache-2.0) AND GPL-3.0-only", (), True),
        ("GPL-3.0-only AND (MIT OR BSD-3-Clause)", (), True),
        ("GPL-3.0-only OR (MIT AND BSD-3-Clause)", (), False),
        ("AGPL-3.0", ("GPL",), True), ("MIT", (), False), (None, (), False),
    ],
)  # fmt: skip
def test_denied(expression: str | None, own: tuple[str, ...], left_out: bool) -> None:
    found = denied(expression, DENIED, own)
    assert found == (Objection(rule="licence", value=expression) if left_out else None)


def test_a_folders_licence_is_that_of_the_files_below(tmp_path: Path) -> None:
    (tmp_path / "libs/deep").mkdir(parents=True)
    (tmp_path / "libs/COPYING").write_text("  GNU GENERAL PUBLIC LICENSE\n   Version 3\n")
    (tmp_path / "LICENSE").write_text("MIT License\n")
    folders = of_folders(tmp_path, ["LICENSE", "libs/COPYING", "libs/deep/a.c", "src/LICENSE"])
    assert folders == {"libs": "GPL"}
    assert around("libs/deep/a.c", folders) == "GPL"
    assert around("libs/a.c", folders) == "GPL"
    assert (around("src/a.c", folders), around("a.c", folders)) == (None, None)


def test_the_repositorys_own(tmp_path: Path) -> None:
    assert own_licences(tmp_path, ["GPL", "GPL", None]) == {"GPL"}
    assert own_licences(tmp_path, ["GPL", "MIT", None, None]) == frozenset()
    (tmp_path / "LICENSE").write_text("MIT License\n\nPermission is hereby granted, free of ...")
    assert of_repository(tmp_path) == {"MIT"}
    (tmp_path / "COPYING").symlink_to("/etc/hostname")
    assert of_repository(tmp_path) == {"MIT"}
