"""Every way in which a call can fail, with what a client needs to know about it.

    HanlinError
      InternalError                   500  our own fault
      InvalidRequest                  400  the request itself is wrong; the same request will fail again
        MalformedBody                      not JSON, or not an object
        MissingModel
        InvalidValue                       codes of the few parameters that have their own (seed)
        BodyTooLarge
        ContextLengthExceeded
        ThinkingNotSupported
        UnsupportedHere                    allowed by the contract, not by what answers here; says what to do
        UrlNotFetched                      a URL of the caller's that must not be fetched, or could not be
        DuplicateKey                       the key to add is stored already
        InvalidPurpose                     a file is uploaded for nothing that files are for
        FileTooLarge
        FileQuotaExceeded                  the workspace has as many files, or bytes, as it may have
        TooManyUploads                     one call brings more files than calls may
        FileRefused                        a call names files that it cannot have; the rest says why:
          InvalidFile                      there never was such a file, or not in this workspace
          FileDeleted
          FileNotRead                      not yet; coming back in some seconds helps
          FileUnfit                        it was looked at, and cannot be read
          TooManyFiles
      LastMessageNotUser              500  as the vendor has it
      InvalidApiKey                   401
      AccessDenied                    403  the key is good, and may not do this
        ModelAccessDenied                  or not with this model
        RoleAccessDenied                   its role in the admin API is too little
      ModelNotFound                   404  unknown, or known and not servable here
      ModelNotSupported               404  known, but not on this endpoint
      UnknownKey                      404  no key has the id
      UnknownWorkspace                404  no workspace has the id or name
      UnknownFile                     404  the workspace has no file of the id
      UnknownPrice                    404  no model has the name, or no price list the version
      PathNotFound                    404
      MethodNotAllowed                405
      QuotaExceeded                   429  a key, a workspace or a model may not do more now; the rest says of what:
        RequestsExceeded                   calls a minute
        BurstExceeded                      calls at once, although the minute has room for them
        TokensExceeded                     tokens a minute
        PlacesExceeded                     calls that run at the same time
        BudgetExceeded                     money
      LimitsUnavailable               503  what is left of a limit cannot be read now, and nobody may go on without it
      EngineError                          what ran, or should have run, failed
        EngineFailed                  500  it died or spoke nonsense while answering
        EngineStalled                 500  it went silent while answering
        AnswerUnfit                   500  its model could not be held to a schema
        RequestTimedOut               500
        EngineUnavailable             503  nothing can answer now: loading, restarting
          EngineNotReady                   Hanlin is starting it
          EngineUnreachable                no connection came about
          EngineRefused                    it does not take our key, or does not know our model
        EngineBusy                    429  its own limits are reached
        Overloaded                    503  everything is busy and the queue is full
      StoreFailed                     500  the database cannot be read or written now
      DiskFull                        500  a file cannot be stored

Texts and codes are those of Model Studio's compatible mode (spec/chat.md §12); what we add, the remedy, comes after the
vendor's words, because clients match on substrings.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType

from hanlin.words import say


class HanlinError(Exception):
    """A failure that a caller is told about.

    `code` and `type` are the public words of the compatible envelope, `param` names the field at fault. `retryable`
    says whether the same request could succeed elsewhere or later; `retry_after_s`, when set, is sent as `Retry-After`,
    and `headers` are sent as they are.
    """

    status = 500
    code: str | None = "internal_error"
    type = "internal_error"
    retryable = False
    should_retry: bool | None = None  # what SDKs are told outright (`x-should-retry`); None leaves it to the status
    retry_after_s: int | None = None
    headers: Mapping[str, str] = MappingProxyType({})

    def __init__(self, message: str, *, param: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param

    def conceal(self, secret: str) -> None:
        """Take a secret out of the message, wherever an engine's words have it; "" is none."""
        if secret and secret in self.message:
            self.message = self.message.replace(secret, "••••")
            self.args = (self.message,)


class InternalError(HanlinError):
    """Something of ours failed in a way that nobody foresaw; the log has the traceback."""

    def __init__(self) -> None:
        super().__init__("An internal error has occured, please try again later or contact service support.")


class InvalidRequest(HanlinError):
    """The request breaks a rule of the contract; the message is the contract's."""

    status, type = 400, "invalid_request_error"
    code: str | None = "invalid_parameter_error"


class MalformedBody(InvalidRequest):
    """The body is not a JSON object."""

    code = None

    def __init__(self, why: str = "") -> None:
        detail = f" ({why})" if why else ""
        super().__init__(f"Required body invalid, please check the request body format.{detail}")


class MissingModel(InvalidRequest):
    code = None

    def __init__(self) -> None:
        super().__init__("you must provide a model parameter.", param="model")


class InvalidValue(InvalidRequest):
    """A parameter whose refusal has the code `invalid_value`: only `seed` (spec/chat.md §12)."""

    code = "invalid_value"


class BodyTooLarge(InvalidRequest):
    code = "BadRequest.TooLarge"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"Payload Too Large. Exceeded limit on max bytes to request body : {limit_bytes}")


class ContextLengthExceeded(InvalidRequest):
    """The prompt does not fit what answers: the smaller of the catalogue's limit and the deployment's context."""

    def __init__(self, model: str, prompt_tokens: int, limit_tokens: int, *, param: str = "messages") -> None:
        super().__init__(
            f"Range of input length should be [1, {limit_tokens}]: "
            f"{model!r} takes {limit_tokens} tokens here, got {prompt_tokens}. Shorten the prompt or change the model",
            param=param,
        )


class ThinkingNotSupported(InvalidRequest):
    code = "InvalidParameter.NotSupportEnableThinking"

    def __init__(self, model: str) -> None:
        super().__init__(f"The model {model} does not support enable_thinking.", param="enable_thinking")


class UnsupportedHere(InvalidRequest):
    """The name may promise it, but what answers here cannot do it; the message ends with the remedy."""


class UrlNotFetched(InvalidRequest):
    """What a caller points at is not there, too large, or nowhere that callers may send us."""

    def __init__(self, url: str, why: str, *, field: str) -> None:
        super().__init__(f"The URL {url} in '{field}' cannot be fetched: {why}", param="messages")


class DuplicateKey(InvalidRequest):
    """The key to add is stored already, working or revoked."""


class InvalidPurpose(InvalidRequest):
    """The vendor's words, with all purposes that there are."""

    code = None

    def __init__(self, purposes: Sequence[str]) -> None:
        *others, last = [f"'{purpose}'" for purpose in purposes]
        super().__init__(f"'purpose' must be {', '.join(others)} or {last}", param="purpose")


class FileTooLarge(InvalidRequest):
    code = "BadRequest.TooLarge"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            "Payload Too Large. "
            + say(f"Such a file may have {limit_bytes} bytes", f"此类文件最大为 {limit_bytes} 字节"),
            param="file",
        )


class FileQuotaExceeded(InvalidRequest):
    """The workspace has no room for another file: delete some that are not needed.

    It has `used` of the `limit` that it may have: of bytes, or (`of_files`) of files.
    """

    def __init__(self, words: str, remedy: str, used: int, limit: int, *, of_files: bool) -> None:
        super().__init__(f"{words} {remedy}")
        self.remedy = remedy
        self.used = used
        self.limit = limit
        self.of_files = of_files

    @classmethod
    def of_number(cls, used: int, limit: int) -> "FileQuotaExceeded":
        remedy = say(
            f"This workspace may have {limit} files: delete some",
            f"该业务空间最多保存 {limit} 个文件：请先删除部分文件",
        )
        return cls("Upload file number exceed limit.", remedy, used, limit, of_files=True)

    @classmethod
    def of_bytes(cls, used_bytes: int, limit_bytes: int) -> "FileQuotaExceeded":
        remedy = say(
            f"The files of this workspace may have {limit_bytes} bytes together: delete some",
            f"该业务空间的文件合计最多 {limit_bytes} 字节：请先删除部分文件",
        )
        return cls("Upload file capacity exceed limit.", remedy, used_bytes, limit_bytes, of_files=False)


class TooManyUploads(InvalidRequest):
    """The files that are too many are not kept; those before them are."""

    code = "BadRequest.TooMany"

    def __init__(self, limit: int) -> None:
        super().__init__(
            say(
                f"A call may bring {limit} files: send the others in another",
                f"单次调用最多上传 {limit} 个文件，其余请另行上传",
            )
        )


class FileRefused(InvalidRequest):
    """A call names files that it cannot have (spec/scenarios.md §2.5)."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="messages")


class InvalidFile(FileRefused):
    """Nobody in this workspace ever had such a file, or it is not one to be read."""

    def __init__(self, file_id: str) -> None:
        super().__init__(f"Invalid file [id:{file_id}].")


class FileDeleted(FileRefused):
    def __init__(self, file_id: str) -> None:
        super().__init__(f"File [id:{file_id}] cannot be found.")


class FileNotRead(FileRefused):
    """Clients look for these words, and try again."""

    retryable = True

    def __init__(self) -> None:
        super().__init__("File parsing in progress, please try again later.")


class FileUnfit(FileRefused):
    """`words` are the vendor's about the file, `remedy` is ours."""

    def __init__(self, file_id: str, words: str, remedy: str = "") -> None:
        super().__init__(f"File [id:{file_id}] {words} {remedy}".rstrip())


class TooManyFiles(FileRefused):
    def __init__(self, limit: int) -> None:
        super().__init__("Too many files provided. " + say(f"A call may name {limit}", f"单次调用最多 {limit} 个文件"))


class LastMessageNotUser(HanlinError):
    """The vendor answers a conversation that does not end with the user with a 500 and the words of a Python list."""

    should_retry = False

    def __init__(self, role: str) -> None:
        super().__init__(
            f"list index out of range: the last message must be from the user, not from {role!r}", param="messages"
        )


class InvalidApiKey(HanlinError):
    """No key was sent (`missing`), or one that is unknown, revoked or expired."""

    status, code, type = 401, "invalid_api_key", "invalid_request_error"

    def __init__(self, remedy: str, *, missing: bool = False) -> None:
        super().__init__(f"Incorrect API key provided. {remedy}")
        self.remedy = remedy
        self.missing = missing


class AccessDenied(HanlinError):
    """The key is good, and was not made for this: another surface, another address."""

    status, code, type = 403, "access_denied", "access_denied"
    words = "Access denied."

    def __init__(self, why: str) -> None:
        super().__init__(f"{self.words} {why}")


class ModelAccessDenied(AccessDenied):
    code = type = "Model.AccessDenied"
    words = "Model access denied."


class RoleAccessDenied(AccessDenied):
    """The key has no role in the admin API, or one that may not do this."""


class ModelNotFound(HanlinError):
    status, code, type = 404, "model_not_found", "invalid_request_error"

    def __init__(self, model: str, remedy: str = "") -> None:
        text = f"The model `{model}` does not exist or you do not have access to it."
        super().__init__(f"{text} {remedy}".rstrip(), param="model")


class ModelNotSupported(HanlinError):
    status, code, type = 404, "model_not_supported", "invalid_request_error"

    def __init__(self, model: str, remedy: str = "") -> None:
        super().__init__(f"Unsupported model {model} for OpenAI compatibility mode. {remedy}".rstrip(), param="model")


class UnknownKey(HanlinError):
    """No key has the id that was given to revoke or change one."""

    status, code, type = 404, "not_found", "invalid_request_error"


class UnknownWorkspace(HanlinError):
    """No workspace has the id, or the name, that was given."""

    status, code, type = 404, "not_found", "invalid_request_error"

    def __init__(self, word: str) -> None:
        super().__init__(
            say(
                f"{word}: no workspace has this id or name. `hanlin workspaces list` shows all, `… create` makes one",
                f"{word}：没有此编号或名称的业务空间。`hanlin workspaces list` 列出全部，`… create` 可新建",
            ),
            param="workspace",
        )


class UnknownFile(HanlinError):
    """The workspace has no file of this id, or no longer."""

    status, code, type = 404, None, "invalid_request_error"

    def __init__(self, file_id: str) -> None:
        super().__init__(f"No such File object: {file_id[:100]}", param="id")


class UnknownPrice(HanlinError):
    """No model has the name whose price was asked for, or no price list the version."""

    status, code, type = 404, "not_found", "invalid_request_error"


class UnknownCall(HanlinError):
    """The ledger has no call of this id."""

    status, code, type = 404, "not_found", "invalid_request_error"


class PathNotFound(HanlinError):
    status, code, type = 404, "not_found", "invalid_request_error"


class MethodNotAllowed(HanlinError):
    status, code, type = 405, "InvalidParameter", "invalid_request_error"

    def __init__(self, method: str) -> None:
        super().__init__(f"Request method '{method}' is not supported.")


class QuotaExceeded(HanlinError):
    """The call may not begin: a limit of whoever it counts for forbids it. Nothing was spent or held for it.

    The remedy names the limit, whose it is, its value and when to come back; `headers` say what is left of each limit.
    `retry_after_s` None: coming back soon is of no use, and SDKs are told so.
    """

    status, code, type = 429, "insufficient_quota", "insufficient_quota"
    words = "You exceeded your current quota, please check your plan and billing details."

    def __init__(
        self, remedy: str, *, retry_after_s: int | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{self.words} {remedy}".rstrip())
        self.retry_after_s = retry_after_s
        self.retryable = retry_after_s is not None
        self.should_retry = None if self.retryable else False
        self.headers = headers or {}


class RequestsExceeded(QuotaExceeded):
    code = type = "limit_requests"
    words = "Requests rate limit exceeded, please try again later."


class BurstExceeded(QuotaExceeded):
    code = type = "limit_burst_rate"
    words = "Request rate increased too quickly."


class TokensExceeded(QuotaExceeded):
    """Transient, in spite of the vendor's code; the other of its two sentences is the one that is not."""

    words = "Allocated quota exceeded, please increase your quota limit."


class PlacesExceeded(QuotaExceeded):
    """Too many calls run at the same time, which the vendor has no limit of.

    Of its words for too many calls this is the one that says nothing of a rate: a program which paces itself by
    `limit_requests` is not misled.
    """

    code = type = "Throttling"
    words = "Too many requests in route. Please try again later."


class BudgetExceeded(QuotaExceeded):
    """The vendor's and OpenAI's word for money that is used up.

    Not `Arrearage`, which is a 400 that clients take for a fault of the request, and says that a bill is unpaid: here
    others of the same account go on.
    """


class LimitsUnavailable(HanlinError):
    """Where limits are kept does not answer, and without it a limit could be passed. The engines are well."""

    status, code, type = 503, "ModelUnavailable", "ModelUnavailable"
    retryable = True

    def __init__(self, why: str, retry_after_s: int = 2) -> None:
        super().__init__(f"Model is unavailable, please try again later. ({why})")
        self.retry_after_s = retry_after_s


class EngineError(HanlinError):
    """What generates failed. Another attempt, here or elsewhere, could succeed.

    `fault` names the failure in one word, for headers and metrics. `again`: the same deployment may be asked once more
    at once. `blames`: it counts against the deployment's health. `asked_wait_s` is how long the engine itself asks to
    be left alone, None when it does not say.
    """

    retryable = True
    fault = "failed"
    again = False
    blames = True
    asked_wait_s: float | None = None


class EngineFailed(EngineError):
    """The engine died, closed the connection or answered with something that is not its protocol."""

    again = True

    def __init__(self, why: str) -> None:
        super().__init__(f"An internal error has occured, please try again later or contact service support. ({why})")


class EngineStalled(EngineError):
    """The engine gave no sign of life for longer than its deadline."""

    code = "RequestTimeOut"
    fault = "stalled"

    def __init__(self, silent_s: float) -> None:
        super().__init__(f"Response timeout! The engine was silent for {silent_s:g} s")


class AnswerUnfit(EngineError):
    """The model was asked several times and did not answer in the form that the caller is due."""

    fault = "unfit"
    blames = False

    def __init__(self, why: str) -> None:
        super().__init__(f"The model's answer does not fit what was asked for. ({why})")


class RequestTimedOut(EngineError):
    code = "RequestTimeOut"
    should_retry = False  # the same call would take as long again
    retryable = False
    fault = "timeout"
    blames = False

    def __init__(self, limit_s: float) -> None:
        super().__init__(f"Request timed out, please try again later. (limit {limit_s:g} s)")


class EngineUnavailable(EngineError):
    """Nothing can answer at the moment, and `why` says what is going on."""

    status, code, type = 503, "ModelUnavailable", "ModelUnavailable"
    fault = "unavailable"

    def __init__(self, why: str, retry_after_s: int = 5) -> None:
        super().__init__(f"Model is unavailable, please try again later. ({why})")
        self.retry_after_s = retry_after_s


class EngineNotReady(EngineUnavailable):
    """An engine that Hanlin starts itself is loading, or is started again; its supervisor knows how it is."""

    fault = "loading"
    blames = False


class EngineUnreachable(EngineUnavailable):
    """No connection came about: the address is unknown or refused, TLS failed, or it took too long."""

    fault = "unreachable"
    again = True


class EngineRefused(EngineUnavailable):
    """The engine does not take Hanlin's key, or knows no model or path of this name: the operator's to mend."""

    fault = "refused"


class EngineBusy(EngineError):
    """The engine's own limits are reached (429); `retry_after_s` is what it asks to wait."""

    status, code, type = 429, "limit_requests", "limit_requests"
    fault = "busy"
    blames = False

    def __init__(self, why: str, retry_after_s: int = 5) -> None:
        super().__init__(f"Requests rate limit exceeded, please try again later. ({why})")
        self.retry_after_s = retry_after_s


class Overloaded(EngineError):
    status, code, type = 503, "ModelServingError", "ModelServingError"
    fault = "full"
    blames = False

    def __init__(self, waiting: int, retry_after_s: int = 5) -> None:
        super().__init__(
            "Too many requests. Your requests are being throttled due to system capacity limits. "
            f"Please try again later. ({waiting} calls are waiting already)"
        )
        self.retry_after_s = retry_after_s


class StoreFailed(HanlinError):
    """The database is down, locked, full or damaged. What it said is in the log, not in the answer."""

    retryable = True

    def __init__(self) -> None:
        super().__init__(
            "An internal error has occured, please try again later or contact service support. (database unavailable)"
        )


class DiskFull(HanlinError):
    """Where files lie there is no room for another one. Trying again at once would only send it again."""

    code: str | None = "InternalError.FileUpload"
    should_retry = False

    def __init__(self) -> None:
        super().__init__(
            "An internal error has occured, please try again later or contact service support. "
            + say("(no room on the disk for files)", "（存放文件的磁盘空间不足）")
        )


class StartupError(Exception):
    """The service cannot start; the message says what is wrong and what to do. Never sent to a caller."""
