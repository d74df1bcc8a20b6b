"""Whole runs of a tiny model: it learns, it goes on, and it refuses what is wrong before any work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("peft")

from rows_world import make_row  # noqa: E402
from safetensors.torch import load_file, save_file  # noqa: E402
from world import faces, losses, write_recipe, write_world  # noqa: E402

from facellava.errors import LeakFound, RunMismatch, TooManyBroken, TrainingFailed, UsageError  # noqa: E402
from facellava.model.modeling import FaceLlavaForConditionalGeneration  # noqa: E402
from facellava.model.processing import FaceLlavaProcessor  # noqa: E402
from facellava.training.recipe import load_recipe  # noqa: E402
from facellava.training.run import train  # noqa: E402
from facellava.training.talks import load_corpus  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_world(tmp_path_factory.mktemp("world"))


def run(folder: Path, data: Path, *changes: tuple[str, str], **settings: str) -> tuple[Path, list[str]]:
    said: list[str] = []
    recipe = load_recipe(str(write_recipe(folder, data, *changes)), settings)
    train(recipe, folder / "out", show=said.append)
    return folder / "out", said


def test_a_run_and_what_it_leaves(dataset: Path, tmp_path: Path) -> None:
    out, said = run(tmp_path, dataset)
    text = "\n".join(said)
    assert "stage pretrain: trains frlp, frgca" in text and "conversations/s" in text
    for name in ("config.json", "model.safetensors", "README.md", "recipe.json", "manifest.json", "tokenizer.json"):
        assert (out / "final" / name).is_file(), name
    assert not [p for p in out.rglob("*") if p.suffix in (".bin", ".pt", ".pth", ".pkl")], "no pickle anywhere"
    lines = [json.loads(line) for line in (out / "finetune" / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]  # 14 pictures and 2 videos: 4 steps and 1
    assert all(line["loss/expression"] == pytest.approx(line["loss"], rel=1e-5) for line in lines)
    model = FaceLlavaForConditionalGeneration.from_pretrained(out / "final")
    processor = FaceLlavaProcessor.from_pretrained(out / "final")
    corpus = load_corpus(load_recipe(str(tmp_path / "recipe.toml")).data)
    clip = corpus.folder(corpus.talks[0]).clip(corpus.talks[0])
    assert torch.isfinite(model(**processor(clip, [{"role": "user", "content": "Happy?"}])).logits).all()
    card = (out / "final" / "README.md").read_text()
    assert (
        "| mine | 16 |" in card
        and "| pretrain | frlp, frgca | 0.001 | 4 | 5 |" in card
        and "Prohibited" in card.title()
    )
    page = (out / "report.html").read_text()
    assert (
        "<svg" in page and "<script" not in page and "http://www.w3.org" not in page.replace("http://www.w3.org/", "")
    )
    samples = [json.loads(line) for line in (out / "samples.jsonl").read_text().splitlines()]
    assert {s["stage"] for s in samples} == {"pretrain", "finetune"} and all("answer" in s for s in samples)


def test_stage_one_leaves_everything_else_as_it_was(dataset: Path, tmp_path: Path) -> None:
    out, _ = run(tmp_path, dataset)
    first, second = (load_file(out / stage / "weights.safetensors") for stage in ("pretrain", "finetune"))
    assert {name.split(".")[0] for name in first} == {"frlp", "frgca"}
    assert {name.split(".")[0] for name in second} == {"frlp", "frgca", "projector", "language_model"}
    torch.manual_seed(0)
    from transformers import set_seed

    from facellava.training.assemble import assemble

    recipe = load_recipe(str(tmp_path / "recipe.toml"))
    set_seed(recipe.seed)
    start = assemble(recipe.model, load_corpus(recipe.data)).model.state_dict()
    final = load_file(out / "final" / "model.safetensors")
    assert all(torch.equal(final[name], start[name]) for name in final if name.startswith("vision_tower"))
    assert not torch.equal(first["frlp.whole.weight"], start["frlp.whole.weight"])
    assert not torch.equal(second["projector.first.weight"], start["projector.first.weight"])


def test_twenty_samples_are_learned_by_heart(tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", faces(20))
    stage = ("batch = 4\nmicro_batch = 2\n[watch]", "batch = 20\nmicro_batch = 20\nepochs = 200\n[watch]")
    changes = [stage, ("log_steps = 1", "log_steps = 20"), ("save_steps = 2", "save_steps = 1000")]
    out, _ = run(tmp_path, data, *changes, **{"stages.finetune.lr": "4e-3"})
    assert losses(out / "finetune")[-1][1] < 0.05
    model = FaceLlavaForConditionalGeneration.from_pretrained(out / "final").eval()
    processor = FaceLlavaProcessor.from_pretrained(out / "final")
    corpus = load_corpus(load_recipe(str(tmp_path / "recipe.toml")).data)
    said, wanted = [], []
    for talk in corpus.talks:
        (question, answer), clip = talk.turns[0], corpus.folder(talk).clip(talk)
        batch = processor(clip, [{"role": "user", "content": question}])
        stop = processor.tokenizer.eos_token_id
        ids = model.generate(**batch, max_new_tokens=64, do_sample=False, eos_token_id=stop, pad_token_id=stop)
        said.append(processor.decode(ids[0, batch["input_ids"].shape[1] :]))
        wanted.append(answer)
    assert said == wanted


def test_the_same_again(dataset: Path, tmp_path: Path) -> None:
    outs = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        outs.append(run(tmp_path / name, dataset)[0])
    assert losses(outs[0] / "finetune") == losses(outs[1] / "finetune")
    one, other = (load_file(out / "final" / "model.safetensors") for out in outs)
    assert all(torch.equal(one[name], other[name]) for name in one)
    _, said = run(tmp_path / "a", dataset)
    assert "stage finetune: done before" in said


def test_cached_features_give_the_same_losses(dataset: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    (tmp_path / "cached").mkdir()
    plain, _ = run(tmp_path / "plain", dataset)
    cached, _ = run(tmp_path / "cached", dataset, **{"data.cache": str(tmp_path / "features")})
    files = sorted((tmp_path / "features").rglob("*.safetensors"))
    assert len(files) == 17, "16 to train on, one to describe"
    a, b = losses(plain / "pretrain"), losses(cached / "pretrain")
    # the order differs, as cached features need not be read group by group; the sum over a pass hardly does
    assert sum(x for _, x in a) == pytest.approx(sum(x for _, x in b), rel=2e-3)
    stamps = [f.stat().st_mtime_ns for f in files]
    shutil.rmtree(cached)
    run(tmp_path / "cached", dataset, **{"data.cache": str(tmp_path / "features")})
    assert [f.stat().st_mtime_ns for f in files] == stamps, "nothing is computed again"


def test_low_rank_factors_and_videos_in_a_run(dataset: Path, tmp_path: Path) -> None:
    out, _ = run(tmp_path, dataset, ("[data]", "[lora]\nrank = 2\nalpha = 4\n[data]"))
    trained = load_file(out / "finetune" / "weights.safetensors")
    assert all("lora_" in name for name in trained if name.startswith("language_model"))
    assert not any("lora_" in name for name in load_file(out / "final" / "model.safetensors"))


# --- refusals ---


def test_what_is_broken_is_counted_and_never_replaced(tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", faces(8))
    import pyarrow as pa
    import pyarrow.parquet as pq

    for path in (data / "data").glob("*.parquet"):
        rows = pq.read_table(path)
        images = rows.column("image").to_pylist()
        images[2] = {"bytes": images[2]["bytes"][:200], "path": "x.jpg"}
        images[5] = {"bytes": b"", "path": "x.jpg"}
        at = rows.schema.get_field_index("image")
        pq.write_table(rows.set_column(at, rows.schema.field(at), pa.array(images, rows.schema.field(at).type)), path)
    with pytest.raises(TooManyBroken, match=r"1 conversations could not be loaded, 0 are allowed \(data.max_broken\)"):
        run(tmp_path, data)
    shutil.rmtree(tmp_path / "out")
    out, _ = run(tmp_path, data, **{"data.max_broken": "2"})
    ledger = [json.loads(line) for line in (out / "broken.jsonl").read_text().splitlines()]
    assert {entry["id"] for entry in ledger} == {"mine/train002", "mine/train005"} and len(ledger) == 2
    assert all(entry["code"] and entry["message"] for entry in ledger)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"data.paths": '["nowhere"]'}, Exception, "holds no training data"),
        ({"model.crop_margin": "0.3"}, UsageError, "was cropped with margin 0, the model expects 0.3"),
        (
            {"model.fusion": '{kind="none", landmarks="none"}'},
            UsageError,
            "stage 'pretrain' trains frlp, which this model does not have",
        ),
        ({"stages.pretrain.context": "20"}, UsageError, "every conversation is longer than context=20"),
        ({"model.text": "{}"}, UsageError, "model.text needs model_type"),
        ({"model.fusion.heads": "5"}, UsageError, r"\[model\]: fusion heads=5 does not divide"),
        ({"model.fusion.colour": "1"}, UsageError, r"\[model\]: .*colour"),
        ({"model.vision.patch": "13"}, UsageError, "does not divide image_size"),
        ({"model.start": "elsewhere"}, Exception, "holds no config.json"),
        ({"model.tokenizer": ""}, UsageError, "model.tokenizer is empty"),
        ({"setting": '{kind="zero-shot", sources=["mine"]}'}, LeakFound, "16 conversations come from there"),
        ({"lora": '{targets=["qkv"]}'}, UsageError, "lora.targets names 'qkv'"),
    ],
)
def test_bad_recipes_fail_before_any_step(
    dataset: Path, tmp_path: Path, settings: dict[str, str], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        run(tmp_path, dataset, **settings)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.rglob("checkpoint-*")) and not list(tmp_path.rglob("log.jsonl"))


def test_faces_cut_otherwise_than_the_model_expects_end_the_run(tmp_path: Path) -> None:
    data = write_world(tmp_path / "data", crop="corner")
    with pytest.raises(UsageError, match="is a corner crop, the model expects centred ones: build the data with"):
        run(tmp_path, data)


def test_a_folder_of_another_run_is_left_alone(dataset: Path, tmp_path: Path) -> None:
    run(tmp_path, dataset)
    with pytest.raises(RunMismatch, match="holds a run of another recipe"):
        run(tmp_path, dataset, seed="5")
    with pytest.raises(RunMismatch, match="holds a run of another data"):
        run(tmp_path, write_world(tmp_path / "other", faces(4)))


def test_a_loss_that_is_no_number_ends_the_run(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingFailed, match="the loss is no finite number at step"):
        run(tmp_path, dataset, **{"stages.pretrain.lr": "1e30", "stages.pretrain.max_grad_norm": "0.0"})


def test_processes_must_divide_a_step(dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "4")
    with pytest.raises(UsageError, match="batch=4 is no multiple of micro_batch=2 times 4 processes"):
        run(tmp_path, dataset)


def test_the_default_trains_from_the_store_of_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen experts, a head fitted on the data's labels, its report, low-rank factors; then what ships."""
    from default_model import require_weights
    from facellava.model.expert_report import ExpertHead
    from facellava.runtime.report import untrained
    from facellava.training import experts, head
    from facellava.training.package import package

    require_weights()
    monkeypatch.setattr(experts, "FEWEST", 2)
    monkeypatch.setattr(head, "PEERS", 1)
    units = [
        make_row(f"u{n}", "action_units", ("AU12",) if n % 2 else (), source="mine", clip=f"mine-train{n:03}")
        for n in range(8)
    ]
    rows = [*faces(14), *units, *faces(3, subset="test")]
    data = write_world(tmp_path / "data", rows, margin=0.6)
    changes = {
        "data.paths": json.dumps([str(data)]),
        "data.shares": "{}",
        "data.multi_turn": "true",
        "model.layers": "1",
        "lora.rank": "2",
        **{f"stages.{stage.name}.conversations": "4" for stage in load_recipe("default").stages},
        "watch.log_steps": "1",
        "watch.samples": "1",
        "watch.sample_tokens": "4",
    }
    said: list[str] = []
    train(load_recipe("default", changes), tmp_path / "out", show=said.append)
    assert any("expert head: expression" in line for line in said)
    package(tmp_path / "out", tmp_path / "shipped")
    card = json.loads((tmp_path / "shipped" / "model.json").read_text())
    assert card["lora_scale"] == 16 and card["crop_margin"] == 0.6
    package(tmp_path / "out", tmp_path / "same", mean_with=tmp_path / "shipped")
    one, same = (load_file(tmp_path / name / "delta.safetensors") for name in ("shipped", "same"))
    assert all(torch.equal(one[name], same[name]) for name in one)
    save_file({name: 3 * value for name, value in one.items()}, tmp_path / "same" / "delta.safetensors")
    package(tmp_path / "out", tmp_path / "mean", mean_with=tmp_path / "same")
    mean = load_file(tmp_path / "mean" / "delta.safetensors")
    assert all(torch.allclose(mean[name].float(), 2 * one[name].float(), rtol=1e-3) for name in one)
    save_file({"frgca.out.weight": one["frgca.out.weight"]}, tmp_path / "same" / "delta.safetensors")
    with pytest.raises(UsageError, match="other parts or shapes"):
        package(tmp_path / "out", tmp_path / "refused", mean_with=tmp_path / "same")
    plain = json.loads((tmp_path / "out" / "final" / "recipe.json").read_text())
    (tmp_path / "out" / "final" / "recipe.json").write_text(json.dumps({**plain, "lora": None}))
    with pytest.raises(UsageError, match=r"has no \[lora\]: only differences"):
        package(tmp_path / "out", tmp_path / "refused")
    assert not (tmp_path / "refused").exists()
    missing = untrained(ExpertHead.load(tmp_path / "shipped").spec)
    assert "AU12" not in missing["action_units"] and "AU9" in missing["action_units"]
    delta = load_file(tmp_path / "shipped" / "delta.safetensors")
    assert all(value.dtype == torch.float16 for value in delta.values())
    assert not any(name.startswith("language_model") and "lora_" not in name for name in delta)
    assert "frgca.out.weight" in delta and "vision_tower.map_mean" in delta
    goes_on_from(tmp_path / "shipped", tmp_path, {k: v for k, v in changes.items() if not k.startswith("stages.")})


def goes_on_from(shipped: Path, tmp_path: Path, changes: dict[str, str]) -> None:
    """A further run starts at the very weights that were packaged, and ends elsewhere."""
    changes |= {"model.delta": json.dumps(str(shipped)), "lora.alpha": "32", "stages.continue.conversations": "4"}
    still = changes | {"stages.continue.lr": "1e-30"}
    before = load_file(shipped / "delta.safetensors")
    for name, settings in (("moved", changes), ("still", still)):
        train(load_recipe("default-continue", settings), tmp_path / name, show=lambda line: None)
        after = load_file(tmp_path / name / "final" / "delta.safetensors")
        assert after.keys() == before.keys()
        same = [torch.equal(value.half(), before[key]) for key, value in after.items()]
        assert all(same) if name == "still" else sum(same) < len(same) / 2
    with pytest.raises(UsageError, match=r"alpha / rank = 16: set model\.base and \[lora\] to the same"):
        train(load_recipe("default-continue", changes | {"lora.alpha": "2"}), tmp_path / "other", show=print)
