"""What a structure's name says of it as an obstacle (TotalSegmentator's names, and plain English ones)."""

from __future__ import annotations

import re

_KINDS = (
    ("nerve", "spinal_cord|spinal_canal|brain|nerve|plexus"),
    ("bone", "rib_|^rib|vertebra|sacrum|hip_|^hip|femur|humerus|scapula|clavicula|sternum|skull|costal|bone|pelvis"),
    ("vessel", "aorta|vena|vein|artery|vessel|trunk|portal|heart|atrial|ventricle|atrium|myocardium|subclavian|carotid|"
               "iliac_"),
    ("lung", "lung|trachea|bronch|airway|pleura"),
    ("bowel", "bowel|colon|duodenum|stomach|esophagus|oesophagus|rectum|gallbladder|bladder|bile"),
    ("organ", "liver|spleen|kidney|pancreas|adrenal|thyroid|prostate|uterus|autochthon|gluteus|iliopsoas|muscle|fat|"
              "cyst|body|skin|breast|ovary|testis|lymph"),
)
_TARGETS = re.compile(r"tumou?r|lesion|target|metastas|nodule", re.IGNORECASE)


def kind_of(name: str) -> str:
    """bone, vessel, lung, bowel, nerve, organ (may be crossed, at a cost), or other (hard: what isn't known is kept
    clear of)."""
    text = name.strip().lower().replace(" ", "_")
    return next((kind for kind, words in _KINDS if re.search(words, text)), "other")


def is_target(name: str) -> bool:
    """Whether the name is one of something to aim at rather than to avoid; a tumour's vessel or nerve is neither."""
    return _TARGETS.search(name) is not None and kind_of(name) not in ("vessel", "nerve")
