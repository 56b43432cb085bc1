"""Words of column names that are known only after treatment, in the languages that hospital tables are written in.

Accents are taken off before a name is looked up (words_of): "décès" is deces, "Überleben" uberleben. "ue" for "ü" is
listed where it is written so. Drawn up by hand from the terms of follow-up forms; a name in another language is not
found, and the checks on values (leaks) are all that is left.
"""

from __future__ import annotations

AFTER_WORDS = frozenset({
    # German
    "nach", "tod", "gestorben", "verstorben", "rezidiv", "progress", "progredienz", "ansprechen", "remission",
    "komplikation", "komplikationen", "nachsorge", "verlaufskontrolle", "zensiert", "ueberleben", "uberleben",
    # French
    "apres", "suivi", "deces", "decede", "mort", "survie", "recidive", "rechute", "reponse", "vivant", "censure",
    # Spanish, Portuguese
    "despues", "seguimiento", "muerte", "muerto", "fallecido", "fallecimiento", "defuncion", "supervivencia",
    "recidiva", "recaida", "progresion", "respuesta", "apos", "obito", "morte", "sobrevida", "seguimento", "progressao",
    "resposta",
    # Italian
    "dopo", "decesso", "deceduto", "sopravvivenza", "ricaduta", "progressione", "risposta",
    # Dutch
    "overleden", "overlijden", "overleving", "recidief", "opvolging", "progressie", "respons",
    # English, further
    "demise", "lfu", "ltfu", "lastfu", "posttx", "postrx", "posttherapy", "postembolization",
    "postembolisation", "postoperative", "postintervention", "ttlp", "lpfs", "dss", "css", "mfs", "ltp", "orr",
    "dor", "ttnt",
})
AFTER_STEMS = ("followup", "nachbeobacht", "nachverfolg", "ueberlebens", "uberlebens", "todes", "sterbe", "rezidiv",
               "progressionsfrei", "surviv", "recurren", "deceas", "mortality", "relaps", "todeath", "lastcontact",
               "lastvisit", "lastseen", "timetoprogression", "timetoevent", "posttreatment", "postproced",
               "vitalstatus", "dateofdeath", "deathdate", "isdead", "supervivencia", "sopravvivenza")
"""Found inside a name that is written as one word ("daystodeath") or as a compound ("Todesursache"); a stem at the
start of a word where it is short."""
SHORT_STEMS = ("todes", "sterbe")
BEFORE_WORDS = frozenset({"vor", "vorher", "ausgangswert", "anamnese", "avant", "antecedent", "antecedents", "initiale",
                          "antes", "previo", "previa", "antecedentes", "basal", "prima", "anamnesi", "voor", "aanvang",
                          "familie", "familial", "familiar", "familiare", "vorgeschichte", "vorherige"})
LAST_PAIRS = frozenset({
    ("last", "visit"), ("last", "seen"), ("last", "follow"), ("last", "known"), ("years", "to"), ("weeks", "to"),
    ("hospital", "stay"), ("length", "stay"), ("disease", "free"), ("progression", "free"), ("dernier", "contact"),
    ("derniere", "visite"), ("dernieres", "nouvelles"), ("letzter", "kontakt"), ("letzte", "kontrolle"),
    ("ultimo", "contacto"), ("ultimo", "contatto"), ("ultima", "visita")})
