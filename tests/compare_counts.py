"""Count hits in the explorer's module, at the size of the screen, and in Python, on masks of full size.

python tests/compare_counts.py [SCENES] [HEIGHT WIDTH]     100 drawn scenes of 480 x 640 unless told otherwise

Each scene is matched at 19 mask thresholds. The two may differ where an IoU is close to 0.5, or two are alike.
"""

import json
import sys

from browser import launch
from playwright.sync_api import sync_playwright
from test_explorer_page import LOAD, MODULE, THRESHOLDS

from segutils import load_model, predict, render_scene
from segutils.evaluation import mask_iou, match_instances
from segutils.explorer.packing import pack

MATCH = """text => {
    const { payload, thresholds } = JSON.parse(text), [picture] = explorer.unpack(payload).pictures;
    return thresholds.map(threshold => [...explorer.matchAll(picture, threshold)]);
}"""
BAR = 0.995


def main(scenes: str = "100", height: str = "480", width: str = "640") -> int:
    """Print each case in which the hits differ, and their share. Returns 1 when it is above the bar."""
    model, weights = load_model()
    cases = equal_hits = equal_matches = 0
    with sync_playwright() as playwright:
        page = launch(playwright).new_page()
        page.evaluate(LOAD, MODULE.read_text("utf-8"))
        for seed in range(int(scenes)):
            image, target = render_scene(seed, (int(height), int(width)))
            prediction = predict(model, [image])[0]
            payload = pack([image], [prediction], weights.meta["categories"], [target])
            found = page.evaluate(MATCH, json.dumps({"payload": payload, "thresholds": THRESHOLDS}))
            for threshold, shown in zip(THRESHOLDS, found, strict=True):
                iou = mask_iou(prediction["masks"], target["masks"], threshold, target.get("iscrowd"))
                full = match_instances(iou, prediction, target).tolist()
                hits = [sum(row >= 0 for row in rows) for rows in (shown, full)]
                cases, equal_matches = cases + 1, equal_matches + (shown == full)
                equal_hits += hits[0] == hits[1]
                if hits[0] != hits[1]:
                    print(
                        f"scene {seed}, mask threshold {threshold}: {hits[0]} hits, and {hits[1]} of full size"
                    )
    share = equal_hits / cases
    print(f"{cases} cases: hits equal in {share:.2%}, all matches in {equal_matches / cases:.2%}", flush=True)
    return int(share < BAR)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
