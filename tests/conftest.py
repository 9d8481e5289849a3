"""Shapes checked at run time, markers that skip with a reason, and the small real objects that all tests share."""

import os
import sys
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import jaxtyping
from beartype import BeartypeConf, beartype
from jaxtyping import install_import_hook

# Every type and jaxtyping shape in a signature of the package is checked while the tests run (but see `checked` below);
# an int is a float there, as PEP 484 has it. The hook wants the checker's name, so that name is made.
sys.modules["house_types"] = ModuleType("house_types")
sys.modules["house_types"].check = beartype(conf=BeartypeConf(is_pep484_tower=True))  # type: ignore[attr-defined]
install_import_hook("plainspoken", "house_types.check")

import pytest
import torch
from hypothesis import HealthCheck, settings
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

REAL = Path(__file__).resolve().parents[1].parent / "shared" / "real"
BOS = "<|endoftext|>"
CONTEXT = 64

settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


LONGEST = ("test_paper.py", "test_torchrun.py", "test_kill_asked.py")
"""Modules whose tests, or what these share, take so long that begun last they would have the other workers wait."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.path.name not in LONGEST)  # all others stay in their order
    if REAL.is_dir():
        return
    skip = pytest.mark.skip(reason="../shared/real is absent: this test needs its pretrained model and text")
    for item in items:
        if "real" in item.keywords:
            item.add_marker(skip)


def pytest_addoption(parser: pytest.Parser) -> None:
    told = "run slow tests without the checks of signatures, but for those that are marked `checked`"
    parser.addoption("--slow-unchecked", action="store_true", help=told)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, object, object]:
    """The checks are two fifths of what a whole pipeline takes, of functions whose signatures fast tests check."""
    unchecked = item.config.getoption("slow_unchecked") and "slow" in item.keywords and "checked" not in item.keywords
    with checking(not unchecked):
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef) -> Generator[None, object, object]:
    """What all tests share is made with the checks, whichever of them it is made for."""
    with checking(fixturedef.scope == "session" or not jaxtyping.config.jaxtyping_disable):
        return (yield)


@contextmanager
def checking(whether: bool) -> Iterator[None]:
    """With or without the checks of signatures."""
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", not whether)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    """Every test starts from one seed; what it leaves behind in torch's generator is put back."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


@pytest.fixture(scope="session")
def real() -> Path:
    """The folder of the real model and text; tests that ask for it also carry `@pytest.mark.real`."""
    if not REAL.is_dir():
        pytest.skip("../shared/real is absent: this test needs its pretrained model and text")
    return REAL


STORY = """def greet(name):
    # Say hello, then count.
    print("Hello, " + name + "!")
    return [1, 2, 3]

Once upon a time there was a girl named Lily. She loved to play with her red ball in the park.
One day the ball rolled away, and Lily said, "Oh no! Where did it go?" Her friend Tom found it. They were happy.
"""


@pytest.fixture(scope="session")
def story() -> str:
    """A few lines of code and of prose: enough text to train a tokenizer on and to fill some rows."""
    return STORY


@pytest.fixture(scope="session")
def byte_tokenizer() -> PreTrainedTokenizerFast:
    """A byte-level BPE of 320 tokens made here: any bytes round-trip; token 0 is BOS, EOS and padding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=[BOS], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator([STORY] * 2, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token=BOS, eos_token=BOS, pad_token=BOS, model_max_length=CONTEXT
    )


@pytest.fixture(scope="session")
def neox_folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast) -> Path:
    """A folder as `save_pretrained` writes it: a random GPT-NeoX of two layers, d_model 16, context 64."""
    config = GPTNeoXConfig(
        vocab_size=len(byte_tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=32, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return _save(GPTNeoXForCausalLM, config, byte_tokenizer, tmp_path_factory.mktemp("lm") / "tiny-neox")


@pytest.fixture(scope="session")
def llama_folder(tmp_path_factory: pytest.TempPathFactory, byte_tokenizer: PreTrainedTokenizerFast) -> Path:
    """The same for a random Llama of two layers with grouped-query attention."""
    config = LlamaConfig(
        vocab_size=len(byte_tokenizer), hidden_size=16, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, intermediate_size=32, max_position_embeddings=CONTEXT, bos_token_id=0, eos_token_id=0,
        pad_token_id=0, initializer_range=0.3,
    )  # fmt: skip
    return _save(LlamaForCausalLM, config, byte_tokenizer, tmp_path_factory.mktemp("lm") / "tiny-llama")


def _save(family: type, config: object, tokenizer: PreTrainedTokenizerFast, folder: Path) -> Path:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        family(config).eval().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def neox(neox_folder: Path):
    """The random GPT-NeoX as a plainspoken LanguageModel on the CPU in float32."""
    from plainspoken.lm import load_lm

    return load_lm(str(neox_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def llama(llama_folder: Path):
    """The random Llama as a plainspoken LanguageModel on the CPU in float32."""
    from plainspoken.lm import load_lm

    return load_lm(str(llama_folder), device="cpu", dtype="float32")


@pytest.fixture(scope="session")
def planted(byte_tokenizer: PreTrainedTokenizerFast):
    """The planted model without a skip."""
    from planted import plant

    return plant(byte_tokenizer)


@pytest.fixture(scope="session")
def planted_skip(byte_tokenizer: PreTrainedTokenizerFast):
    """The planted model with a coder that has a skip."""
    from planted import plant

    return plant(byte_tokenizer, skip=True)
