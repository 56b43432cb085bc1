"""What every feature is called: the tag of the IBSI reference tables, the name and code of the IBSI manual, the unit.

Source: Image Biomarker Standardisation Initiative, reference manual (Zwanenburg et al., arXiv:1612.07003v11) and
consensus values (Zwanenburg et al., Radiology 2020;295:328-338). A texture's key is its tag and the aggregation:
`cm_joint_max_3D_comb` is the joint maximum of one 3D co-occurrence matrix merged over all directions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

from ...geometry import InputError

AGGREGATIONS = {
    "2D_avg": "by slice and direction, averaged",
    "2D_comb": "directions merged by slice, slices averaged",
    "2_5D_avg": "slices merged by direction, directions averaged",
    "2_5D_comb": "slices and directions merged",
    "3D_avg": "by 3D direction, averaged",
    "3D_comb": "3D directions merged",
}
"""Of co-occurrence and run length matrices. The other textures have no directions: 2D, 2_5D (slices merged), 3D."""
ZONE_AGGREGATIONS = {"2D": "by slice, averaged", "2_5D": "slices merged", "3D": "volume"}
AGGREGATION_CODES = {"2D_avg": "BTW3", "2D_comb": "SUJT", "2_5D_avg": "JJUI", "2_5D_comb": "ZW7Z", "3D_avg": "ITBB",
                     "3D_comb": "IAZD", "2D": "8QNN", "2_5D": "62GR", "3D": "KOBO"}


@dataclass(frozen=True)
class Name:
    """What is known of a feature before it is measured.

    Attributes:
        tag: as in the IBSI reference tables, without aggregation.
        name: of the IBSI manual.
        family: key of `FAMILIES`.
        unit: "1", "mm", "mm2", "mm3", "1/mm", "intensity", "intensity2", "intensity*mm3" or "level".
        code: of the IBSI manual, four or five characters.
    """

    tag: str
    name: str
    family: str
    unit: str
    code: str


@dataclass(frozen=True)
class Family:
    """A family: the prefix of its tags, its title, and what directions its aggregation knows."""

    prefix: str
    title: str
    code: str
    directional: bool = False
    texture: bool = False

    @property
    def aggregations(self) -> tuple[str, ...]:
        """Aggregations that a feature of it can have; nothing where it is no texture."""
        return () if not self.texture else tuple(AGGREGATIONS) if self.directional else tuple(ZONE_AGGREGATIONS)


FAMILIES = {
    "morphology": Family("morph", "Morphology", "HCUG"),
    "local_intensity": Family("loc", "Local intensity", "9ST6"),
    "statistics": Family("stat", "Intensity-based statistics", "UHIW"),
    "histogram": Family("ih", "Intensity histogram", "ZVCW"),
    "ivh": Family("ivh", "Intensity-volume histogram", "P88C"),
    "glcm": Family("cm", "Grey level co-occurrence matrix", "LFYI", True, True),
    "glrlm": Family("rlm", "Grey level run length matrix", "TP0I", True, True),
    "glszm": Family("szm", "Grey level size zone matrix", "9SAK", False, True),
    "gldzm": Family("dzm", "Grey level distance zone matrix", "VMDZ", False, True),
    "ngtdm": Family("ngt", "Neighbourhood grey tone difference matrix", "IPET", False, True),
    "ngldm": Family("ngl", "Neighbouring grey level dependence matrix", "REK0", False, True),
}

_TABLE = """
morphology
volume|Volume (mesh)|mm3|RNU0
vol_approx|Volume (voxel counting)|mm3|YEKZ
area_mesh|Surface area (mesh)|mm2|C0JK
av|Surface to volume ratio|1/mm|2PR5
comp_1|Compactness 1|1|SKGS
comp_2|Compactness 2|1|BQWJ
sph_dispr|Spherical disproportion|1|KRCK
sphericity|Sphericity|1|QCFX
asphericity|Asphericity|1|25C7
com|Centre of mass shift|mm|KLMA
diam|Maximum 3D diameter|mm|L0JK
pca_maj_axis|Major axis length|mm|TDIC
pca_min_axis|Minor axis length|mm|P9VJ
pca_least_axis|Least axis length|mm|7J51
pca_elongation|Elongation|1|Q3CK
pca_flatness|Flatness|1|N17B
vol_dens_aabb|Volume density (axis-aligned bounding box)|1|PBX1
area_dens_aabb|Area density (axis-aligned bounding box)|1|R59B
vol_dens_ombb|Volume density (oriented minimum bounding box)|1|ZH1A
area_dens_ombb|Area density (oriented minimum bounding box)|1|IQYR
vol_dens_aee|Volume density (approximate enclosing ellipsoid)|1|6BDE
area_dens_aee|Area density (approximate enclosing ellipsoid)|1|RDD2
vol_dens_mvee|Volume density (minimum volume enclosing ellipsoid)|1|SWZ1
area_dens_mvee|Area density (minimum volume enclosing ellipsoid)|1|BRI8
vol_dens_conv_hull|Volume density (convex hull)|1|R3ER
area_dens_conv_hull|Area density (convex hull)|1|7T7F
integ_int|Integrated intensity|intensity*mm3|99N0
moran_i|Moran's I index|1|N365
geary_c|Geary's C measure|1|NPT7
local_intensity
peak_loc|Local intensity peak|intensity|VJGA
peak_glob|Global intensity peak|intensity|0F91
statistics
mean|Mean intensity|intensity|Q4LE
var|Intensity variance|intensity2|ECT3
skew|Intensity skewness|1|KE2A
kurt|(Excess) intensity kurtosis|1|IPH6
median|Median intensity|intensity|Y12H
min|Minimum intensity|intensity|1GSF
p10|10th intensity percentile|intensity|QG58
p90|90th intensity percentile|intensity|8DWT
max|Maximum intensity|intensity|84IY
iqr|Intensity interquartile range|intensity|SALO
range|Intensity range|intensity|2OJQ
mad|Intensity mean absolute deviation|intensity|4FUA
rmad|Intensity robust mean absolute deviation|intensity|1128
medad|Intensity median absolute deviation|intensity|N72L
cov|Intensity coefficient of variation|1|7TET
qcod|Intensity quartile coefficient of dispersion|1|9S40
energy|Intensity energy|intensity2|N8CA
rms|Root mean square intensity|intensity|5ZWQ
histogram
mean|Mean discretised intensity|level|X6K6
var|Discretised intensity variance|level2|CH89
skew|Discretised intensity skewness|1|88K1
kurt|(Excess) discretised intensity kurtosis|1|C3I7
median|Median discretised intensity|level|WIFQ
min|Minimum discretised intensity|level|1PR8
p10|10th discretised intensity percentile|level|GPMT
p90|90th discretised intensity percentile|level|OZ0C
max|Maximum discretised intensity|level|3NCY
mode|Intensity histogram mode|level|AMMC
iqr|Discretised intensity interquartile range|level|WR0O
range|Discretised intensity range|level|5Z3W
mad|Intensity histogram mean absolute deviation|level|D2ZX
rmad|Intensity histogram robust mean absolute deviation|level|WRZB
medad|Intensity histogram median absolute deviation|level|4RNL
cov|Intensity histogram coefficient of variation|1|CWYJ
qcod|Intensity histogram quartile coefficient of dispersion|1|SLWD
entropy|Discretised intensity entropy|bit|TLU2
uniformity|Discretised intensity uniformity|1|BJ5W
max_grad|Maximum histogram gradient|1/level|12CE
max_grad_g|Maximum histogram gradient intensity|level|8E6O
min_grad|Minimum histogram gradient|1/level|VQB3
min_grad_g|Minimum histogram gradient intensity|level|RHQZ
ivh
v10|Volume at intensity fraction 10 %|1|NK6P
v90|Volume at intensity fraction 90 %|1|4279
i10|Intensity at volume fraction 10 %|ivh|PWN1
i90|Intensity at volume fraction 90 %|ivh|BOHI
diff_v10_v90|Volume fraction difference between intensity fractions 10 and 90 %|1|WITY
diff_i10_i90|Intensity difference between volume fractions 10 and 90 %|ivh|JXJA
auc|Area under the IVH curve|1|9CMM
glcm
joint_max|Joint maximum|1|GYBY
joint_avg|Joint average|level|60VM
joint_var|Joint variance|level2|UR99
joint_entr|Joint entropy|bit|TU9B
diff_avg|Difference average|level|TF7R
diff_var|Difference variance|level2|D3YU
diff_entr|Difference entropy|bit|NTRS
sum_avg|Sum average|level|ZGXS
sum_var|Sum variance|level2|OEEB
sum_entr|Sum entropy|bit|P6QZ
energy|Angular second moment|1|8ZQL
contrast|Contrast|level2|ACUI
dissimilarity|Dissimilarity|level|8S9J
inv_diff|Inverse difference|1|IB1Z
inv_diff_norm|Normalised inverse difference|1|NDRX
inv_diff_mom|Inverse difference moment|1|WF0Z
inv_diff_mom_norm|Normalised inverse difference moment|1|1QCO
inv_var|Inverse variance|1|E8JP
corr|Correlation|1|NI2N
auto_corr|Autocorrelation|level2|QWB0
clust_tend|Cluster tendency|level2|DG8W
clust_shade|Cluster shade|level3|7NFM
clust_prom|Cluster prominence|level4|AE86
info_corr1|First measure of information correlation|1|R8DG
info_corr2|Second measure of information correlation|1|JN9H
glrlm
sre|Short runs emphasis|1|22OV
lre|Long runs emphasis|1|W4KF
lgre|Low grey level run emphasis|1|V3SW
hgre|High grey level run emphasis|1|G3QZ
srlge|Short run low grey level emphasis|1|HTZT
srhge|Short run high grey level emphasis|1|GD3A
lrlge|Long run low grey level emphasis|1|IVPO
lrhge|Long run high grey level emphasis|1|3KUM
glnu|Grey level non-uniformity|1|R5YN
glnu_norm|Normalised grey level non-uniformity|1|OVBL
rlnu|Run length non-uniformity|1|W92Y
rlnu_norm|Normalised run length non-uniformity|1|IC23
r_perc|Run percentage|1|9ZK5
gl_var|Grey level variance|level2|8CE5
rl_var|Run length variance|1|SXLW
rl_entr|Run entropy|bit|HJ9O
glszm
sze|Small zone emphasis|1|5QRC
lze|Large zone emphasis|1|48P8
lgze|Low grey level zone emphasis|1|XMSY
hgze|High grey level zone emphasis|1|5GN9
szlge|Small zone low grey level emphasis|1|5RAI
szhge|Small zone high grey level emphasis|1|HW1V
lzlge|Large zone low grey level emphasis|1|YH51
lzhge|Large zone high grey level emphasis|1|J17V
glnu|Grey level non-uniformity|1|JNSA
glnu_norm|Normalised grey level non-uniformity|1|Y1RO
zsnu|Zone size non-uniformity|1|4JP3
zsnu_norm|Normalised zone size non-uniformity|1|VB3A
z_perc|Zone percentage|1|P30P
gl_var|Grey level variance|level2|BYLV
zs_var|Zone size variance|1|3NSA
zs_entr|Zone size entropy|bit|GU8N
gldzm
sde|Small distance emphasis|1|0GBI
lde|Large distance emphasis|1|MB4I
lgze|Low grey level zone emphasis|1|S1RA
hgze|High grey level zone emphasis|1|K26C
sdlge|Small distance low grey level emphasis|1|RUVG
sdhge|Small distance high grey level emphasis|1|DKNJ
ldlge|Large distance low grey level emphasis|1|A7WM
ldhge|Large distance high grey level emphasis|1|KLTH
glnu|Grey level non-uniformity|1|VFT7
glnu_norm|Normalised grey level non-uniformity|1|7HP3
zdnu|Zone distance non-uniformity|1|V294
zdnu_norm|Normalised zone distance non-uniformity|1|IATH
z_perc|Zone percentage|1|VIWW
gl_var|Grey level variance|level2|QK93
zd_var|Zone distance variance|1|7WT1
zd_entr|Zone distance entropy|bit|GBDU
ngtdm
coarseness|Coarseness|1|QCDE
contrast|Contrast|1|65HE
busyness|Busyness|1|NQ30
complexity|Complexity|1|HDEZ
strength|Strength|1|1X9X
ngldm
lde|Low dependence emphasis|1|SODN
hde|High dependence emphasis|1|IMOQ
lgce|Low grey level count emphasis|1|TL9H
hgce|High grey level count emphasis|1|OAE7
ldlge|Low dependence low grey level emphasis|1|EQ3F
ldhge|Low dependence high grey level emphasis|1|JA6D
hdlge|High dependence low grey level emphasis|1|NBZI
hdhge|High dependence high grey level emphasis|1|9QMG
glnu|Grey level non-uniformity|1|FP8K
glnu_norm|Normalised grey level non-uniformity|1|5SPA
dcnu|Dependence count non-uniformity|1|Z87G
dcnu_norm|Normalised dependence count non-uniformity|1|OKJI
dc_perc|Dependence count percentage|1|6XV8
gl_var|Grey level variance|level2|1PFV
dc_var|Dependence count variance|1|DNX2
dc_entr|Dependence count entropy|bit|FCBV
dc_energy|Dependence count energy|1|CAS9
"""


@cache
def names() -> dict[str, Name]:
    """Every feature by its tag without aggregation, in the order of the IBSI tables."""
    out: dict[str, Name] = {}
    family = ""
    for line in _TABLE.split("\n"):
        if "|" in line:
            short, name, unit, code = line.split("|")
            tag = f"{FAMILIES[family].prefix}_{short}"
            out[tag] = Name(tag, name, family, unit, code)
        else:
            family = line or family
    return out


def of_family(family: str) -> list[str]:
    """Tags of a family, without aggregation."""
    return [name.tag for name in names().values() if name.family == family]


def keys_of(family: str, aggregations: tuple[str, ...]) -> list[str]:
    """Keys of a family in the IBSI order: a texture's tags for each aggregation that fits it, others as they are."""
    tags = of_family(family)
    known = FAMILIES[family].aggregations
    if not known:
        return tags
    return [f"{tag}_{way}" for way in known if wanted(way, aggregations) for tag in tags]


def wanted(way: str, aggregations: tuple[str, ...]) -> bool:
    """Whether an aggregation (of either kind) is among those asked for; `3D` stands for 3D_avg and 3D_comb too."""
    return any(way == asked or (way in ZONE_AGGREGATIONS and asked.startswith(f"{way}_"))
               or (asked in ZONE_AGGREGATIONS and way.startswith(f"{asked}_")) for asked in aggregations)


def parse_key(key: str) -> tuple[str, Name, str]:
    """Filter prefix ('' if none), name and aggregation ('' if none) of a key.

    Raises InputError for what is no feature's key.
    """
    prefix, _, rest = key.rpartition("__")
    if rest in names() and not FAMILIES[names()[rest].family].texture:
        return prefix, names()[rest], ""
    for way in (*AGGREGATIONS, *ZONE_AGGREGATIONS):
        tag = rest.removesuffix(f"_{way}")
        if tag != rest and tag in names() and way in FAMILIES[names()[tag].family].aggregations:
            return prefix, names()[tag], way
    raise InputError(f"{key}: is no radiomics feature; keys are the tags of the IBSI tables, as cm_contrast_3D_comb")
