"""The keys of callbacks: tokens of a key count while it is there, and no list that is wrong is shown."""

import base64

import pytest

from services.workflows.callbacks import Callbacks, Pledge, UnknownCallbackError
from services.workflows.keys import read_keys
from services.workflows.settings import WorkflowsSettings
from shared.errors import ConfigurationError
from shared.objects.address import Address

FIRST, SECOND = f"1:{43 * 'A'}", f"2:{42 * 'B'}A"
RUN = Address("run", "acme", "r-1")
PLEDGE = Pledge("acme", "r-1", "a", 3)


def test_a_token_counts_as_long_as_its_key_is_there() -> None:
    """Also when another key makes the new ones."""
    old = Callbacks(read_keys(FIRST)).token(RUN, "a", 3)
    both = Callbacks(read_keys(f"{SECOND},{FIRST}"))
    assert PLEDGE == both.pledge(old) == both.pledge(both.token(RUN, "a", 3))
    with pytest.raises(UnknownCallbackError):
        Callbacks(read_keys(SECOND)).pledge(old)
    assert both.token(RUN, "a", 3) != old


def test_no_byte_of_a_token_can_be_changed() -> None:
    """Nor taken away, nor added; what is no token at all is refused alike."""
    callbacks = Callbacks(read_keys(FIRST))
    whole = base64.urlsafe_b64decode(callbacks.token(RUN, "a", 3) + "==")
    changed = [whole[:at] + bytes((whole[at] ^ 1,)) + whole[at + 1 :] for at in range(len(whole))]
    wrong = [base64.urlsafe_b64encode(one).rstrip(b"=").decode() for one in (*changed, whole[:-1], whole + b"\0", b"")]
    for token in (*wrong, "é", "!", "A"):
        with pytest.raises(UnknownCallbackError):
            callbacks.pledge(token)


@pytest.mark.parametrize("text", ["", "1:AAAA", f"256:{43 * 'A'}", f"{FIRST},{FIRST}", f"x:{43 * 'A'}", "secret"])
def test_a_list_that_is_none_is_refused_and_not_shown(text: str) -> None:
    """A service without its keys does not start."""
    with pytest.raises(ConfigurationError) as refused:
        WorkflowsSettings(workflow_keys=text).keys()
    assert "TENURE_WORKFLOW_KEYS" in str(refused.value)
    assert not text or text not in str(refused.value)
