"""The two halves never import one another, and the contract imports neither."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_import_linter_keeps_every_contract():
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    assert "5 kept, 0 broken" in result.stdout


def test_the_contract_and_the_command_load_without_spark_and_torch():
    code = (
        "import sys, licet.cli, licet.manifest, licet.ledger, licet.sources, licet.selection\n"
        "licet.cli.main(['--help'])\n"
        "heavy = {'pyspark', 'torch', 'delta', 'pytorch_lightning', 'diffusers'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert "ingest-images" in result.stdout
