"""What each column is: its role, its group, and what its name gives away."""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from ...geometry import InputError
from .later_words import AFTER_STEMS, AFTER_WORDS, BEFORE_WORDS, LAST_PAIRS, SHORT_STEMS
from .record import Plan
from .table import PATIENT_NAMES, Table

ROLES = ("feature", "patient", "identifier", "site", "target", "time", "excluded")
GROUPS = ("imaging", "clinical", "score", "deep", "other")

_IMAGING = re.compile(r"(^|__)(morph|loc|stat|ih|ivh|cm|rlm|szm|dzm|ngt|ngl)_|^(original|wavelet|log-sigma|log_sigma|"
                      r"gradient|square|lbp|laws|gabor|logarithm|exponential|squareroot)[-_]|radiomic|"
                      r"^(shell|rim|habitat|delta)_", re.IGNORECASE)
_DEEP = re.compile(r"^(deep|emb|embedding|latent)[_-]?\d*", re.IGNORECASE)
_READINGS = {"recist", "mrecist", "easl", "suv", "suvmax", "hounsfield", "hu", "adc", "glcm", "glrlm", "glszm", "ngtdm",
             "gldm", "texture", "sphericity", "firstorder"}
_SCORES = {"meld", "meldna", "childpugh", "child", "cps", "albi", "bclc", "okuda", "clip", "tnm", "hap", "fips",
           "milan", "apri", "fib4", "ecog", "asa", "apache", "sofa", "charlson", "karnofsky", "mayo", "ps"}
_IDENTIFIERS = {"id", "ids", "mrn", "uid", "uuid", "guid", "accession", "barcode", "initials", "name", "surname",
                "forename", "ssn", "nhs", "kvnr", "index", "row", "filename", "file", "path", "phone", "email",
                "address", "zip", "postcode", "tcia", "record"}
_SITES = {"inst", "institute", "klinik", "zentrum", "standort", "hopital", "centro", "ziekenhuis", "ospedale",
          "site", "centre", "center", "hospital", "institution", "scanner", "vendor", "manufacturer", "batch"}
_AFTER = {"fu", "followup", "post", "postop", "posttreatment", "postprocedural", "after", "response", "responder",
          "responders", "progression", "progressed", "progress", "pd", "death", "dead", "died", "deceased",
          "mortality", "survival", "survived", "surv", "os", "pfs", "dfs", "rfs", "efs", "ttp", "tte", "dod", "relapse",
          "recurrence", "recurred", "censor", "censored", "censoring", "alive", "outcome", "outcomes", "complication",
          "complications", "endpoint", "readmission", "autopsy"}
_RESPONSE = {"recist", "mrecist", "easl", "irecist", "qeasl", "vrecist", "lr", "tr"}
_BEFORE = {"bl", "baseline", "pre", "preop", "before", "prior", "previous", "history", "hx", "initial", "family",
           "pretreatment", "t0", "intake", "admission"}
_PAIRS = {("follow", "up"), ("last", "contact"), ("time", "to"), ("days", "to"), ("months", "to"), ("vital", "status"),
          ("lost", "to"), ("of", "stay"), ("best", "response"), ("event", "free"), ("post", "treatment"),
          ("local", "control")}
_ALONE_ONLY = {"name", "row", "index", "path", "file", "tcia", "record"}
_JOINED = {"followup": "follow up", "postop": "post op", "posttace": "post tace", "posttreatment": "post treatment"}


def words_of(name: str) -> list[str]:
    """The lower-case words of a column name, without accents: "FollowUp_Größe(mm)" gives follow, up, grosse, mm."""
    bare = "".join(letter for letter in unicodedata.normalize("NFKD", name.replace("ß", "ss"))
                   if not unicodedata.combining(letter))
    parted = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", bare.replace("mRECIST", "mrecist"))
    words: list[str] = []
    for word in re.split(r"[^0-9A-Za-z]+", parted.lower()):
        words += _JOINED.get(word, word).split()
    return words


def known_only_later(name: str) -> str | None:
    """Why the name says that the value is known only after treatment, or None. "5-FU" is a drug."""
    words = words_of(name)
    if set(words) & (_BEFORE | BEFORE_WORDS):
        return None
    pairs = set(pairwise(words))
    telling = pairs & (_PAIRS | LAST_PAIRS)
    if telling:
        return " ".join(min(telling))
    if ("5", "fu") in pairs:
        words = [word for word in words if word != "fu"]
    found = [word for word in words if word in _AFTER or word in AFTER_WORDS]
    if found:
        return found[0]
    stems = [stem for stem in AFTER_STEMS for word in words
             if word.startswith(stem) or (stem in word and stem not in SHORT_STEMS)]
    if stems:
        return stems[0]
    response = [word for word in words if word in _RESPONSE - {"lr", "tr"}]
    return f"{response[0]} without a word for baseline" if response else None


def is_identifier_name(name: str) -> bool:
    words = words_of(name)
    sure = bool(set(words) & (_IDENTIFIERS - _ALONE_ONLY))
    return name.lower() in PATIENT_NAMES or sure or (len(words) <= 2 and bool(set(words) & _IDENTIFIERS))


def group_of(name: str, origin: str = "") -> str:
    words = set(words_of(name))
    if _DEEP.match(name):
        return "deep"
    if origin == "features" or _IMAGING.search(name) or words & _READINGS:
        return "imaging"
    joined = "".join(words_of(name))
    if words & _SCORES or any(joined.startswith(score) for score in ("meld", "childpugh", "albi", "bclc", "fib4")):
        return "score"
    return "clinical"


def assign_roles(table: Table, plan: Plan) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """(role, group, reason) of every column. The plan's words win over the patterns.

    Raises InputError: a named column that is not there, an unknown role or group, the same column in two parts.
    """
    for name in (*plan.exclude, *plan.baseline, *plan.roles, *plan.groups):
        table.require(name)
    for name in plan.allow:
        if name != DUPLICATES:
            table.require(name)
    for kind, known in ((plan.roles, ROLES), (plan.groups, GROUPS)):
        for name, word in kind.items():
            if word not in known:
                raise InputError(f"column '{name}': '{word}' is not known; choose {', '.join(known)}")
    parts = [part for part in (plan.target, plan.time, plan.patient, plan.site) if part is not None]
    for part in parts:
        table.require(part)
    twice = [part for part in parts if parts.count(part) > 1] or [n for n in parts[:2] if n in plan.baseline]
    if twice:
        raise InputError(f"column '{twice[0]}' can't be two of target, time, patient, site and baseline")
    role: dict[str, str] = {}
    reason: dict[str, str] = {}
    for name in table.names:
        role[name], reason[name] = _role(table, plan, name)
    group = {name: plan.groups.get(name) or group_of(name, table.origin.get(name, "")) for name in table.names}
    return role, group, reason


DUPLICATES = "duplicate patients"


def _role(table: Table, plan: Plan, name: str) -> tuple[str, str]:
    given = {plan.target: "target", plan.time: "time", plan.patient: "patient", plan.site: "site"}
    if name in given:
        return given[name], "named in the plan"
    if name in plan.exclude:
        return "excluded", "excluded by the user"
    if plan.deep is not None and name in [plan.deep.get(part, part) for part in ("image", "mask", "label")]:
        return "excluded", "read as an image by the deep columns"
    if name in plan.roles:
        return plan.roles[name], "named in the plan"
    if name.startswith("(unnamed"):
        return "excluded", "a column without a name"
    if is_identifier_name(name) and name not in plan.allow:
        return "identifier", "its name is that of an identifier"
    if table.kinds[name] == "empty":
        return "excluded", "empty"
    if table.kinds[name] == "date" and name not in plan.allow:
        return "excluded", "a date is no feature; give the interval to the index date in days"
    if table.kinds[name] in ("text", "date"):
        return "excluded", "free text or too many levels to be a category"
    if set(words_of(name)) & _SITES and name not in plan.allow:
        return "excluded", "a place or scanner, not the patient; name it as site to use it"
    return "feature", ""
