"""Long documents made on the spot: varied prose in Chinese and English, with sentences put where a test wants them.

The same arguments always make the same document, and a page does not depend on how many there are. No two paragraphs
are alike. `pages_of` returns what stands on the pages; a parser must find it all, line breaks apart.
"""

import random
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

Language = Literal["zh", "en"]
Style = Literal["chapter", "section", "text"]

PAGES_PER_CHAPTER = 12


def _words(table: str) -> Mapping[str, Sequence[str]]:
    """Read a table of `kind: word, word, …`; an indented line goes on with the kind above it."""
    lines = table.strip().replace("\n  ", " ").splitlines()
    return {kind: words.split(", ") for kind, words in (line.split(": ", 1) for line in lines)}


ZH = _words("""
place: 杭州, 苏州, 宁波, 成都, 西安, 武汉, 青岛, 厦门, 长沙, 昆明, 沈阳, 兰州, 合肥, 南昌, 贵阳, 大连, 洛阳,
  泉州, 桂林, 烟台
body: 水务局, 供电公司, 档案馆, 港务集团, 地铁公司, 农业合作社, 第三人民医院, 气象台, 博物馆, 轴承厂, 纺织厂,
  造船厂, 图书馆, 环境监测站, 物流园, 民航管理处, 消防支队, 植物研究所
person: 王建国, 李秀英, 张晓东, 刘思远, 陈玉兰, 杨德明, 赵文博, 黄丽华, 周志强, 吴海燕, 徐子涵, 孙长河, 胡雪梅,
  朱启航
role: 项目经理, 总工程师, 值班主任, 采购专员, 质检员, 副主任, 研究员, 财务主管, 安全员, 调度员, 档案员, 站长
thing: 循环水泵, 变压器, 冷却塔, 输送带, 压力容器, 闸门, 锅炉, 配电柜, 温度传感器, 起重机, 空压机, 制氧机, 滤芯,
  阀门, 电缆桥架, 监控系统, 数据库, 备用电源, 通风管道, 除尘设备
matter: 年度预算, 应急预案, 招标文件, 水质报告, 节能改造, 库存盘点, 人员培训, 合同条款, 防汛准备, 设备检修,
  客流统计, 档案整理, 用地审批, 技术标准, 安全评估, 环境影响评价
topic: 运行管理, 质量控制, 成本分析, 历史沿革, 风险防范, 维护保养, 人员配置, 工艺流程, 数据统计, 验收要求,
  市场前景, 安全生产, 能源消耗, 服务水平, 地质条件
verb: 检查, 更换, 调试, 登记, 评估, 改造, 验收, 封存, 清洗, 校准, 加固, 移交
cause: 连续降雨, 用电高峰, 供货延误, 操作失误, 设备老化, 标准修订, 客流增长, 管线沉降, 气温骤降, 材料涨价
effect: 产量下降, 工期顺延, 能耗增加, 投诉减少, 效率提高, 成本上升, 故障率降低, 等候时间缩短, 水位回落
unit: 吨, 千瓦时, 立方米, 万元, 台, 公里, 件, 人次, 平方米, 小时
season: 春季, 夏季, 秋季, 冬季, 汛期, 采暖期, 旅游旺季, 检修期
""")
EN = _words("""
place: Hamburg, Lisbon, Toronto, Bergen, Nairobi, Adelaide, Osaka, Porto, Leeds, Denver, Antwerp, Tampere,
  Gdansk, Utrecht
body: the water board, the port authority, the city archive, the regional hospital, the railway office,
  the weather service, the bearing plant, the farmers' cooperative, the museum trust, the shipyard,
  the power utility, the fire brigade, the botanical institute, the housing council, the observatory
person: Ada Lindqvist, Tom Okafor, Maria Pereira, Henry Walsh, Ingrid Solberg, Daniel Cho, Ruth Adler,
  Peter Novak, Leila Haddad, George Mbeki, Clara Jensen, Samuel Ortiz
role: project manager, chief engineer, duty officer, buyer, inspector, deputy director, researcher,
  controller, safety officer, dispatcher, archivist, site manager
thing: circulation pump, transformer, cooling tower, conveyor, pressure vessel, sluice gate, boiler,
  switchboard, temperature sensor, crane, compressor, filter, relief valve, backup generator,
  ventilation duct, signal box, storage tank, data recorder
matter: annual budget, emergency plan, tender, water report, energy survey, stock count, staff training,
  contract, flood plan, maintenance schedule, passenger count, safety review, zoning request
topic: operation, quality control, cost, history, risk, maintenance, staffing, process design, statistics,
  acceptance, markets, work safety, energy use, service levels, ground conditions
verb: inspected, replaced, tested, recorded, assessed, rebuilt, accepted, sealed, cleaned, calibrated,
  strengthened
cause: steady rain, peak demand, a late delivery, an operating error, ageing equipment, a revised standard,
  growing traffic, a sudden frost, dearer materials, a change of contractor
effect: output fell, the schedule slipped, energy use rose, complaints became rarer, costs went up,
  failures became less frequent, waiting times were cut, the level dropped, yields improved
month: January, February, March, April, May, June, July, August, September, October, November, December
unit: tonnes, kilowatt-hours, kilometres, boxes, visitors, metres, hours, litres, pallets, samples
season: spring, summer, autumn, winter, the heating season, the flood season, the holidays
""")

ZH_SENTENCES = (
    "{season}期间，{place}{body}对{thing}进行了{verb}，共涉及{n}{unit}。",
    "{person}担任{role}，负责{matter}的日常工作。",
    "由于{cause}，{thing}的运行参数偏离了设计值约{percent}%，随后{effect}。",
    "据{place}{body}统计，上一年度的总量为{n}{unit}，比前一年{updown}{percent}%。",
    "{matter}经过{small}次讨论后通过，其中第{small}条由{person}提出。",
    "在{place}的{thing}附近，工作人员发现了{small}处异常，并于{month}月{day}日完成{verb}。",
    "编号为{code}的{thing}已经使用{small}年，计划在{season}之前{verb}。",
    "有关{topic}的材料由{body}保管，查阅者须向{role}登记。",
    "{body}与{place}的合作单位约定，每{small}个月对{matter}复核一次。",
    "如果{cause}持续超过{small}天，{role}应当通知{body}并暂停{verb}。",
    "从{topic}的角度看，{effect}主要与{cause}有关，而不是{matter}本身的问题。",
    "{person}在会上指出，{place}的{thing}需要{n}{unit}的备件。",
    "{year}年{month}月，{body}首次公布了{matter}的结果。",
    "比较{place}和{place2}两地可以看出，后者的{topic}更为稳定，差距约为{percent}个百分点。",
    "{thing}的额定值为{n}{unit}，实测值略低，原因仍在{verb}之中。",
    "为了{topic}，{body}新增了{small}名{role}，他们来自{place2}。",
    "{season}过后，{matter}转入下一阶段，预计还需{small}周。",
    "{role}每天记录{thing}的状态，并把结果抄送{place2}{body}。",
)
EN_SENTENCES = (
    "During {season}, {body} in {place} {verb} the {thing}, which concerned {n} {unit}.",
    "{person}, the {role}, looks after the {matter} from day to day.",
    "Because of {cause}, the {thing} ran about {percent} percent away from its design point, and {effect}.",
    "According to {body}, the total of the year before was {n} {unit}, {percent} percent {updown} than expected.",
    "The {matter} was adopted after {small} rounds; clause {small} had been proposed by {person}.",
    "Close to the {thing} in {place}, staff found {small} faults and {verb} them by {day} {month}.",
    "Unit {code} is a {thing} that has served for {small} years and will be {verb} before {season}.",
    "Papers about {topic} are kept by {body}, and readers sign in with the {role}.",
    "Partners in {place} agreed with {body} to go through the {matter} every {small} months.",
    "If {cause} lasts for more than {small} days, the {role} informs {body} and stops the {thing}.",
    "Seen from the side of {topic}, {effect} because of {cause} rather than the {matter} itself.",
    "{person} told the meeting that the {thing} in {place} needs {n} {unit} in reserve.",
    "In {month} {year}, {body} published the {matter} for the first time.",
    "Comparing {place} with {place2} shows that {topic} is steadier in the latter, by {percent} points or so.",
    "The {thing} is rated at {n} {unit}; what was measured is a little lower, and the reason is not known yet.",
    "For the sake of {topic}, {body} hired {small} people from {place2}, each of them a {role}.",
    "After {season} the {matter} enters its next stage, which takes another {small} weeks.",
    "Every day the {role} notes the state of the {thing} and sends a copy to {place2}.",
)


@dataclass(frozen=True)
class Paragraph:
    text: str
    style: Style = "text"


@dataclass(frozen=True)
class Prose:
    """How a language is written: its words, its sentences, how much of it fills a page."""

    words: Mapping[str, Sequence[str]]
    sentences: Sequence[str]
    chapter: str
    section: str
    between: str  # what stands between two sentences
    characters: int  # on a page, about
    updown: tuple[str, str]


PROSE: Mapping[Language, Prose] = {
    "zh": Prose(
        ZH, ZH_SENTENCES, "第{chapter}章 {place}的{topic}", "{page}.{number} {body}与{topic}", "", 700, ("增加", "减少")
    ),
    "en": Prose(
        EN,
        EN_SENTENCES,
        "Chapter {chapter}: {topic} in {place}",
        "{page}.{number} {topic} and {matter}",
        " ",
        2200,
        ("higher", "lower"),
    ),
}


def _filled(pattern: str, prose: Prose, chance: random.Random, **fixed: object) -> str:
    words: dict[str, object] = {name: chance.choice(choices) for name, choices in prose.words.items()}
    month = chance.randint(1, 12)
    words |= {
        "place2": chance.choice(prose.words["place"]),
        "n": f"{chance.randint(12, 98_000):,}" if prose is PROSE["en"] else chance.randint(12, 98_000),
        "percent": f"{chance.uniform(0.3, 48):.1f}",
        "small": chance.randint(2, 29),
        "day": chance.randint(1, 28),
        "month": prose.words["month"][month - 1] if prose is PROSE["en"] else month,
        "year": chance.randint(1956, 2024),
        "code": f"{chance.choice('ABCDEFGHKM')}{chance.choice('XYZRT')}-{chance.randint(100, 9999)}",
        "updown": chance.choice(prose.updown),
    }
    text = pattern.format(**(words | fixed))
    return text[0].upper() + text[1:]


def paragraphs_of(page: int, *, language: Language, needle: str | None = None, seed: int = 0) -> list[Paragraph]:
    """Return what stands on a page, in order: a heading where a chapter begins, then sections of some paragraphs."""
    prose, chance = PROSE[language], random.Random(f"{language} {seed} {page}")
    made: list[Paragraph] = []
    if page % PAGES_PER_CHAPTER == 1:
        title = _filled(prose.chapter, prose, chance, chapter=page // PAGES_PER_CHAPTER + 1)
        made.append(Paragraph(title, "chapter"))
    written, section = 0, 0
    while written < prose.characters:
        if written >= section * prose.characters / 2:
            section += 1
            made.append(Paragraph(_filled(prose.section, prose, chance, page=page, number=section), "section"))
        sentences = [_filled(form, prose, chance) for form in chance.sample(prose.sentences, chance.randint(3, 6))]
        made.append(Paragraph(prose.between.join(sentences)))
        written += len(made[-1].text)
    if needle is not None:
        bodies = [number for number, paragraph in enumerate(made) if paragraph.style == "text"]
        chosen = bodies[len(bodies) // 2]
        stop = "。" if language == "zh" else ". "
        first, end, rest = made[chosen].text.partition(stop)
        before, after = first + end.rstrip(), rest
        made[chosen] = Paragraph(prose.between.join(filter(None, [before, needle, after])))
    return made


def pages_of(*, pages: int, language: Language, needles: Mapping[int, str], seed: int = 0) -> list[str]:
    """Return the texts that go onto the pages: a line for each heading and paragraph, an empty line between them."""
    return [
        "\n\n".join(made.text for made in paragraphs_of(page, language=language, needle=needles.get(page), seed=seed))
        for page in range(1, pages + 1)
    ]


# PDF

SIZES: Mapping[Style, tuple[int, int]] = {"chapter": (20, 30), "section": (14, 24), "text": (11, 16)}  # font, leading
WIDTH, HEIGHT, MARGIN = 595, 842, 64

TO_UNICODE = (
    "/CIDInit /ProcSet findresource begin 12 dict begin begincmap /CMapName /Hanlin def /CMapType 2 def\n"
    "1 begincodespacerange <0000> <FFFF> endcodespacerange\n"
    + "".join(
        f"{min(100, 256 - start)} beginbfrange\n"
        + "".join(f"<{high:02X}00> <{high:02X}FF> <{high:02X}00>\n" for high in range(start, min(start + 100, 256)))
        + "endbfrange\n"
        for start in range(0, 256, 100)
    )
    + "endcmap CMapName currentdict /CMap defineresource pop end end"
)
"""Every character code is its own Unicode number: no font is needed to say what a page says."""


class Pdf:
    """Writes a PDF object by object. Text is shown in one composite font whose codes are UTF-16."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._offsets: dict[int, int] = {}
        self._last = 0
        self._file.write(b"%PDF-1.7\n%\xe4\xb8\xad\xe6\x96\x87\n")

    def number(self) -> int:
        """Return the number of an object that is written later."""
        self._last += 1
        return self._last

    def put(self, body: str | bytes, number: int | None = None) -> int:
        number = number or self.number()
        self._offsets[number] = self._file.tell()
        data = body.encode() if isinstance(body, str) else body
        self._file.write(b"%d 0 obj\n%b\nendobj\n" % (number, data))
        return number

    def stream(self, data: bytes, entries: str = "", *, packed: bool = True) -> int:
        if packed:
            data, entries = zlib.compress(data, 1), entries + " /Filter /FlateDecode"
        return self.put(b"<< /Length %d %b >>\nstream\n%b\nendstream" % (len(data), entries.encode(), data))

    def font(self) -> int:
        unicode = self.stream(TO_UNICODE.encode())
        described = self.put(
            "<< /Type /FontDescriptor /FontName /Hanlin /Flags 4 /FontBBox [0 -200 1000 800] /ItalicAngle 0"
            " /Ascent 800 /Descent -200 /CapHeight 700 /StemV 80 >>"
        )
        inner = self.put(
            "<< /Type /Font /Subtype /CIDFontType2 /BaseFont /Hanlin /DW 1000 /W [0 127 500] /CIDToGIDMap /Identity"
            " /CIDSystemInfo << /Registry (Adobe) /Ordering (Identity) /Supplement 0 >>"
            f" /FontDescriptor {described} 0 R >>"
        )
        return self.put(
            f"<< /Type /Font /Subtype /Type0 /BaseFont /Hanlin /Encoding /Identity-H /DescendantFonts [{inner} 0 R]"
            f" /ToUnicode {unicode} 0 R >>"
        )

    def tree(self, pages: Sequence[int], parents: Mapping[int, int], root: int) -> None:
        """Write a page tree of two levels: `parents` are the numbers of the groups that the pages belong to."""
        for group in sorted(set(parents.values())):
            kids = [page for page in pages if parents[page] == group]
            self.put(f"<< /Type /Pages /Parent {root} 0 R /Count {len(kids)} /Kids [{_references(kids)}] >>", group)
        groups = _references(sorted(set(parents.values())))
        self.put(f"<< /Type /Pages /Count {len(pages)} /Kids [{groups}] >>", root)

    def end(self, catalogue: int, more: str = "") -> None:
        """Write the table of objects and close the file."""
        at = self._file.tell()
        self._file.write(b"xref\n0 %d\n0000000000 65535 f \n" % (self._last + 1))
        for number in range(1, self._last + 1):
            self._file.write(b"%010d 00000 n \n" % self._offsets.get(number, 0))
        self._file.write(
            f"trailer\n<< /Size {self._last + 1} /Root {catalogue} 0 R {more} >>\nstartxref\n{at}\n%%EOF\n".encode()
        )
        self._file.close()


def _references(numbers: Sequence[int]) -> str:
    return " ".join(f"{number} 0 R" for number in numbers)


def width_of(text: str, size: float) -> float:
    """Return how wide the text is in `Pdf.font`: half an em for Latin letters, an em for everything else."""
    return size * sum(0.5 if character < "\x80" else 1.0 for character in text)


def wrapped(text: str, size: float, width: float) -> list[str]:
    """Break a paragraph into lines: between words, and anywhere between Han characters, but not before a full stop."""
    lines, line, filled = [], "", 0.0
    for piece in _pieces(text):
        piece_width = width_of(piece, size)
        if line and filled + piece_width > width and piece not in "，。；、":
            lines.append(line.rstrip())
            line, filled = "", 0.0
            piece = piece.lstrip()
            piece_width = width_of(piece, size)
        line += piece
        filled += piece_width
    return [*lines, line.rstrip()]


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for character in text:
        if character >= "\x80":
            if piece:
                yield piece
            yield character
            piece = ""
        else:
            piece += character
            if character == " ":
                yield piece
                piece = ""
    if piece:
        yield piece


def shown(text: str, x: float, y: float, size: float) -> str:
    """Return the operators that show one line, its base line beginning at a point."""
    return f"BT /F {size} Tf 1 0 0 1 {x:.1f} {y:.1f} Tm <{text.encode('utf-16-be').hex()}> Tj ET\n"


def laid_out(paragraphs: Sequence[Paragraph]) -> str:
    """Return the operators of a page of paragraphs, from the top margin down."""
    made, y = [], HEIGHT - MARGIN - 20.0
    for paragraph in paragraphs:
        size, leading = SIZES[paragraph.style]
        for line in wrapped(paragraph.text, size, WIDTH - 2 * MARGIN):
            made.append(shown(line, MARGIN, y, size))
            y -= leading
        y -= 8
    return "".join(made)


def pdf_of(path: Path, contents: Callable[[int], str], pages: int) -> None:
    """Write a PDF whose pages have these operators; `/F` is the font. `contents` is asked for pages from 1 on."""
    pdf = Pdf(path)
    root, font = pdf.number(), pdf.font()
    numbers, parents, group = [], {}, 0
    for page in range(1, pages + 1):
        if page % 64 == 1:
            group = pdf.number()
        content = pdf.stream(contents(page).encode())
        number = pdf.put(
            f"<< /Type /Page /Parent {group} 0 R /MediaBox [0 0 {WIDTH} {HEIGHT}] /Contents {content} 0 R"
            f" /Resources << /Font << /F {font} 0 R >> >> >>"
        )
        numbers.append(number)
        parents[number] = group
    pdf.tree(numbers, parents, root)
    pdf.end(pdf.put(f"<< /Type /Catalog /Pages {root} 0 R >>"))


def write_pdf(path: Path, *, pages: int, language: Language, needles: Mapping[int, str], seed: int = 0) -> None:
    """Write a PDF of prose. A needle is a sentence that stands in the middle of the page of its number (from 1)."""
    pdf_of(
        path,
        lambda page: laid_out(paragraphs_of(page, language=language, needle=needles.get(page), seed=seed)),
        pages,
    )


# DOCX

_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_TYPES = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
    '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
    '<Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/word/document.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.document.main+xml"/>'
    '<Override PartName="/word/styles.xml" ContentType='
    '"application/vnd.openxmlformats-officedocument.wordprocessingml.styles+xml"/></Types>'
)
_RELATIONS = (
    '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
    '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" '
    'Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/{kind}" Target="{target}"/>'
    "</Relationships>"
)
_STYLES = (
    f'<?xml version="1.0" encoding="UTF-8" standalone="yes"?><w:styles xmlns:w="{_W}">'
    '<w:style w:type="paragraph" w:default="1" w:styleId="Normal"><w:name w:val="Normal"/></w:style>'
    + "".join(
        f'<w:style w:type="paragraph" w:styleId="{level}"><w:name w:val="heading {level}"/>'
        f'<w:pPr><w:outlineLvl w:val="{level - 1}"/></w:pPr></w:style>'
        for level in (1, 2)
    )
    + "</w:styles>"
)
_LEVELS: Mapping[Style, str] = {"chapter": "1", "section": "2"}


def docx_of(path: Path, body: Iterator[str]) -> None:
    """Write a DOCX whose body is this WordprocessingML, piece by piece."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr("[Content_Types].xml", _TYPES)
        archive.writestr("_rels/.rels", _RELATIONS.format(kind="officeDocument", target="word/document.xml"))
        archive.writestr("word/_rels/document.xml.rels", _RELATIONS.format(kind="styles", target="styles.xml"))
        archive.writestr("word/styles.xml", _STYLES)
        with archive.open("word/document.xml", "w", force_zip64=True) as document:
            document.write(f'<?xml version="1.0" encoding="UTF-8"?><w:document xmlns:w="{_W}"><w:body>'.encode())
            for piece in body:
                document.write(piece.encode())
            document.write(b"</w:body></w:document>")


def _docx_page(paragraphs: Sequence[Paragraph], *, first: bool) -> str:
    made = []
    for number, paragraph in enumerate(paragraphs):
        level = _LEVELS.get(paragraph.style)
        style = f'<w:pPr><w:pStyle w:val="{level}"/></w:pPr>' if level else ""
        # As Word saves it: where it last broke the page, it says so within the first run of the new one.
        turn = "<w:lastRenderedPageBreak/>" if number == 0 and not first else ""
        made.append(f'<w:p>{style}<w:r>{turn}<w:t xml:space="preserve">{escape(paragraph.text)}</w:t></w:r></w:p>')
    return "".join(made)


def write_docx(path: Path, *, pages: int, language: Language, needles: Mapping[int, str], seed: int = 0) -> None:
    """Write a DOCX of the same prose as `write_pdf`, with the page breaks that Word leaves in its files."""
    docx_of(
        path,
        (
            _docx_page(
                paragraphs_of(page, language=language, needle=needles.get(page), seed=seed),
                first=page == 1,
            )
            for page in range(1, pages + 1)
        ),
    )
