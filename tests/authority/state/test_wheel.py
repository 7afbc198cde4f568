"""What is installed can make and migrate a database."""

from pathlib import Path

from hatchling.builders.wheel import WheelBuilder

from anchorhold.authority import migrations

ROOT = Path(__file__).parents[3]


def test_every_revision_is_in_the_wheel() -> None:
    shipped = {file.distribution_path for file in WheelBuilder(str(ROOT)).recurse_included_files()}
    revisions = [
        str(file.relative_to(ROOT / "src")) for file in Path(migrations.__file__).parent.glob("*/versions/r*.py")
    ]
    assert len(revisions) >= 3
    assert set(revisions) <= shipped
