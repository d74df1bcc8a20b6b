"""The head's score for manipulation beside blur and compression: ``python benchmarks/authenticity.py DATA``.

DATA is the folder that ``facellava.training.build_default`` wrote. The baseline is a logistic regression on sixteen
statistics of noise, sharpness and blocks in the face and around it, trained on the same faces. People are held out;
``warp`` is a kind that neither has seen. Genuine and manipulated pictures have the same compression and size.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from facellava.instruct.fakes import KINDS
from facellava.model.expert_report import ExpertHead
from facellava.model.experts import VALUE_SIZES
from facellava.training.build_default import HELD_OUT_KIND
from facellava.training.head import predict
from facellava.training.samples import load_rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    args = parser.parse_args()
    samples, head = load_rows(args.data, args.data / "faces.jsonl"), ExpertHead.load(args.data)
    start = list(VALUE_SIZES).index("pixels")
    first = sum(list(VALUE_SIZES.values())[:start])
    statistics = samples.values[:, first : first + VALUE_SIZES["pixels"]].numpy()

    def rows(split: str) -> list[int]:
        return [i for i in samples.indices(split) if samples.rows[i]["authenticity"] is not None]

    def fake(of: list[int]) -> np.ndarray:
        return np.array([samples.rows[i]["authenticity"] == "fake" for i in of])

    train, test = rows("train"), rows("test")
    baseline = make_pipeline(StandardScaler(), LogisticRegression(max_iter=2000, class_weight="balanced"))
    baseline.fit(statistics[train], fake(train))
    where = head.spec.offsets()["deepfake"]
    scores = {
        "head": predict(head, samples, test)[:, where.stop - 1],
        "statistics": baseline.predict_proba(statistics[test])[:, 1],
    }
    truth = fake(test)
    kinds = np.array([next((k for k in KINDS if samples.rows[i]["id"].endswith(f"-{k}")), "real") for i in test])
    print(f"{'':12s} {'kind':12s} {'n':>5s} {'accuracy':>9s} {'AUC':>6s}")
    for name, p in scores.items():
        print(f"{name:12s} {'genuine':12s} {(~truth).sum():5d} {(p[~truth] < 0.5).mean():9.3f}")
        for kind in KINDS:
            chosen = ~truth | (kinds == kind)
            note = " (never trained on)" if kind == HELD_OUT_KIND else ""
            print(
                f"{name:12s} {kind:12s} {(kinds == kind).sum():5d} {(p[kinds == kind] >= 0.5).mean():9.3f} "
                f"{roc_auc_score(truth[chosen], p[chosen]):6.3f}{note}"
            )
        print(
            f"{name:12s} {'all':12s} {len(truth):5d} {((p >= 0.5) == truth).mean():9.3f} {roc_auc_score(truth, p):6.3f}"
        )


if __name__ == "__main__":
    main()
