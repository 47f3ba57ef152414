"""Why a file cannot be read, in words that programs compare and sentences that tell people what to do."""

from collections.abc import Mapping
from typing import Literal, get_args

from hanlin.words import say

Reason = Literal[
    "format",  # nothing here reads such files
    "blank",  # it was read, and there is no text in it
    "encrypted",  # a password or a licence is needed
    "broken",  # it is not what it says, or only a part of it is there
    "too_many_pages",
    "too_large",  # unpacked, in characters or in pixels
    "timeout",  # no progress, or too long altogether
    "memory",  # it wants more memory than a parser is given
    "needs_ocr",  # its text is in pictures, and nothing here reads those
]

REASONS: tuple[Reason, ...] = get_args(Reason)

_SENTENCES: Mapping[Reason, tuple[str, str]] = {
    "format": (
        "files of this format cannot be read here: save it as PDF, DOCX, XLSX, PPTX, EPUB, HTML, MD, TXT, CSV or JSON",
        "无法读取这种格式的文件：请另存为 PDF、DOCX、XLSX、PPTX、EPUB、HTML、MD、TXT、CSV 或 JSON",
    ),
    "blank": ("there is no text in the file", "文件中没有文字"),
    "encrypted": (
        "the file is protected: save it without a password and upload it again",
        "文件已加密：请去除密码后重新上传",
    ),
    "broken": (
        "the file is damaged or not what its name says: open it in its own program, save it again and upload that",
        "文件已损坏或与其扩展名不符：请用原程序打开并另存后重新上传",
    ),
    "too_many_pages": ("the file has too many pages: split it", "文件页数过多：请拆分"),
    "too_large": ("the file is too large once unpacked: split it", "文件解压后过大：请拆分"),
    "timeout": ("reading the file takes too long: split it", "读取文件耗时过长：请拆分"),
    "memory": ("reading the file takes too much memory: split it", "读取文件占用内存过多：请拆分"),
    "needs_ocr": (
        'the text is in pictures, which takes text recognition to read: pip install "hanlin[ocr]"',
        '文字在图片中，需要文字识别才能读取：pip install "hanlin[ocr]"',
    ),
}


class DocumentUnreadable(Exception):
    """A file that does not become text. `reason` is for programs, `detail` tells people what it is and what to do."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        self.reason: Reason = reason
        self.detail = detail or say(*_SENTENCES[reason])
        super().__init__(f"{reason}: {self.detail}")


__all__ = ["REASONS", "DocumentUnreadable", "Reason"]
