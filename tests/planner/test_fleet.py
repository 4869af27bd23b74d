"""Several instances side by side: rates and prices add up, and each is deployed for most images a second."""

import json

import pytest

from optimum_pixart_neuron.commands.pixart_plan import COMMAND


@pytest.mark.seconds
@pytest.mark.soak
def test_four_instances_make_four_times_the_images_for_four_times_the_price(tiny_checkpoint, tmp_path, capsys):
    file = tmp_path / "plan.json"
    where = ["--model", str(tiny_checkpoint), "--instance_type", "inf2.24xlarge", "trn1.2xlarge"]
    assert COMMAND.main([*where, "--replicas", "4", "--json", str(file)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    planned = json.loads(file.read_text())
    assert [fleet["instance"] for fleet in planned["fleets"]] == ["inf2.24xlarge", "trn1.2xlarge"]
    for fleet in planned["fleets"]:
        rows = [row for row in planned["rows"] if row["instance"] == fleet["instance"] and row["fits"]]
        best = max(rows, key=lambda row: row["images_per_second"])
        assert (fleet["mode"], fleet["ranks"]) == (best["mode"], best["ranks"])
        assert fleet["images_per_second"] == pytest.approx(4 * best["images_per_second"])
        assert fleet["cost_per_hour"] == pytest.approx(4 * best["price"]["per_hour"])
        assert fleet["pipelines"] == 4 * best["pipelines"]
        assert f"4 x {fleet['instance']}: {fleet['images_per_second']:.3f} images/s" in said


@pytest.mark.seconds
def test_a_plan_of_one_instance_says_nothing_of_others(tiny_checkpoint, tmp_path):
    file = tmp_path / "plan.json"
    assert COMMAND.main(["--model", str(tiny_checkpoint), "--instance_type", "trn1.2xlarge", "--json", str(file)]) == 0
    assert json.loads(file.read_text())["fleets"] == []
