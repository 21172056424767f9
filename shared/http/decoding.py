"""JSON bodies, taken at their word: no type is coerced, no field ignored, no byte guessed.

Litestar asks msgspec to be lenient, so that "1" and 1.0 pass for an integer, and lets two errors
of the decoder through as faults of the server. Here a body is decoded once, straight into the
type that the handler declares, and everything that is wrong with it is an `InvalidInputError` that
says where. What msgspec cannot see remains: of a repeated key the last value counts.

Sources: RFC 8259, OWASP ASVS 5.0 V1.5.3 and V15.3.5.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar

import msgspec
from litestar import Request

from shared.errors import InvalidInputError

T = TypeVar("T")


def strict_decoder(type_: type[T]) -> Callable[[bytes], T]:
    """A function that decodes JSON into `type_`.

    Raises:
        InvalidInputError (the function): what came is not JSON, not UTF-8, nested too deeply, or not
            a `type_`; `where` is the JSON path.
    """
    decode_bytes = msgspec.json.Decoder(type_).decode

    def decode(body: bytes) -> T:
        try:
            return decode_bytes(body)
        except msgspec.ValidationError as exc:
            detail, _, where = str(exc).partition(" - at ")
            raise InvalidInputError(detail, where.replace("`", "") or "$") from exc
        except msgspec.DecodeError as exc:
            raise InvalidInputError(str(exc), "$") from exc
        except UnicodeDecodeError as exc:
            raise InvalidInputError("The body is not UTF-8", "$") from exc
        except RecursionError as exc:
            raise InvalidInputError("The body is nested too deeply", "$") from exc

    return decode


class StrictRequest(Request[Any, Any, Any]):
    """A request whose body is decoded into the annotation of the handler's `data`, strictly."""

    async def json(self) -> Any:
        """The decoded body.

        Raises:
            InvalidInputError: it is not what the handler declares.
        """
        field = self.route_handler.parsed_data_field
        return _decoder(Any if field is None else field.annotation)(await self.body())


@cache
def _decoder(annotation: Any) -> Callable[[bytes], Any]:
    return strict_decoder(annotation)
