"""What a running server notices of other processes."""

from flex_assist.adapters.registry import Registry
from flex_assist.locations import locate
from flex_assist.repository import forgotten as forgetting
from flex_assist.repository.forgotten import Forgotten
from flex_lsp.promotion import active_versions


def test_promoted_removed_and_forgotten_are_noticed(tmp_path, promote):
    registry = Registry(locate(), tmp_path)
    seen = [active_versions(locate(), tmp_path)]
    assert seen == [frozenset()]
    promote(registry, "python")
    seen.append(active_versions(locate(), tmp_path))
    registry.deactivate("python")
    seen.append(active_versions(locate(), tmp_path))
    # Nothing answers differently, but prompts must not quote the file any more.
    forgetting.save(Forgotten().joined("a.py"), registry.folder)
    seen.append(active_versions(locate(), tmp_path))
    assert seen[0] == seen[2]
    assert len(set(seen)) == 3
