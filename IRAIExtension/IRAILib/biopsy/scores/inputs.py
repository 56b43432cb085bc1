"""Inputs that several scores ask for: the same words, units and limits everywhere.

Limits: `possible` is what a living patient or a laboratory can show at all, `usual` what needs no second look. They are
IRAI's own, wide on purpose, and no part of any score.
"""

from __future__ import annotations

from dataclasses import replace

from .model import Input

BILIRUBIN = Input("bilirubin", "total bilirubin in serum", unit="mg/dL", analyte="bilirubin", possible=(0.01, 100.0),
                  usual=(0.1, 50.0))
CREATININE = Input("creatinine", "creatinine in serum", unit="mg/dL", analyte="creatinine", possible=(0.05, 40.0),
                   usual=(0.3, 15.0))
ALBUMIN = Input("albumin", "albumin in serum", unit="g/dL", possible=(0.3, 8.0), usual=(1.5, 5.5))
INR = Input("inr", "international normalised ratio of the prothrombin time", possible=(0.3, 30.0), usual=(0.8, 10.0))
SODIUM = Input("sodium", "sodium in serum", unit="mmol/L", analyte="sodium", possible=(85.0, 200.0),
               usual=(115.0, 160.0))
AFP = Input("afp", "alpha-fetoprotein in serum", unit="ng/mL", analyte="afp", possible=(0.0, 1e8), usual=(0.0, 1e6))
AGE = Input("age", "age", unit="y", possible=(0.0, 125.0), usual=(18.0, 100.0))
SEX = Input("sex", "sex", kind="choice", choices=("female", "male"))
DIALYSIS = Input("dialysis", "two dialyses, or 24 h of continuous haemodialysis, within the last 7 days", kind="flag",
                 default="no")
HEIGHT = Input("height", "body height", unit="m", possible=(0.4, 2.6), usual=(1.2, 2.2))
WEIGHT = Input("weight", "body weight", unit="kg", possible=(2.0, 500.0), usual=(30.0, 250.0))

NUMBER = Input("number", "viable tumours in the liver", kind="count", possible=(1.0, 1000.0), usual=(1.0, 50.0))
LARGEST = Input("largest", "largest diameter of the largest viable tumour", unit="cm", possible=(0.1, 40.0),
                usual=(0.3, 25.0))
VASCULAR = Input("vascular_invasion", "macroscopic vascular invasion (portal or hepatic vein)", kind="flag")
EXTRAHEPATIC = Input("extrahepatic", "spread outside of the liver: lymph nodes or metastases", kind="flag")

ALBUMIN_G_PER_L = replace(ALBUMIN, unit="g/L", possible=(3.0, 80.0), usual=(15.0, 55.0))
BILIRUBIN_UMOL_PER_L = replace(BILIRUBIN, unit="umol/L", possible=(0.17, 1710.4), usual=(1.7, 855.0))
