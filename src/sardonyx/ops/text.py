"""Operators on strings, and n-grams of tokens."""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from sardonyx.dims import maximum
from sardonyx.dtypes import BOOL, FLOAT, INT32, INT64, STRING
from sardonyx.errors import ExecutionError, InferenceError, ModelError, quote
from sardonyx.ir.types import shape_text
from sardonyx.ops.broadcast import broadcast
from sardonyx.ops.fact import Fact
from sardonyx.ops.numeric import check_broadcast
from sardonyx.ops.operator import Operator
from sardonyx.ops.regex import Pattern
from sardonyx.ops.schema import Input, Output, attribute
from sardonyx.ops.symbolic import check_size, exact, most_of, unknown

if TYPE_CHECKING:
    from sardonyx.ir.tensor import Array

_SPACES: Final = " \t\n\r\f\v"


class StringConcat(Operator, since=20):
    """X followed by Y, element by element, broadcast."""

    X, Y, Z = Input("T"), Input("T"), Output("T")
    T = (STRING,)

    def infer(self, X: Fact, Y: Fact) -> Fact:
        return Fact.tensor(STRING, broadcast(X.shape, Y.shape))

    def reference(self, X: Array, Y: Array) -> Array:
        shape = check_broadcast("StringConcat", X, Y)
        lengths = [np.asarray(np.frompyfunc(len, 1, 1)(part)).astype(np.int64) for part in (X, Y)]
        totals = [np.broadcast_to(part, shape).sum() for part in lengths]
        check_size("StringConcat", [int(totals[0] + totals[1])], 1)
        result = np.empty(shape, object)
        result[...] = X + Y
        return result


class StringSplit(Operator, since=20):
    """The parts of each string between `delimiter`s, padded with "", and how many there are.

    Without a delimiter strings are split at runs of ASCII white space, none at the ends.
    `maxsplit` bounds the number of splits, from the left.
    """

    X = Input("T1")
    Y, Z = Output("T2"), Output("T3")
    T1, T2, T3 = (STRING,), (STRING,), (INT64,)
    delimiter: str | None = None
    maxsplit: int | None = None

    def infer(self, X: Fact) -> tuple[Fact, Fact]:
        if X.shape is None:
            return Fact.tensor(STRING), Fact.tensor(INT64)
        parts = unknown("how many parts the strings of X have")
        return Fact.tensor(STRING, (*X.shape, parts)), Fact.tensor(INT64, X.shape)

    def reference(self, X: Array) -> tuple[Array, Array]:
        parts = [self._split(text) for text in X.reshape(-1)]
        counts = np.array([len(part) for part in parts], np.int64)
        most = int(counts.max(initial=0))
        check_size("StringSplit", (*X.shape, most), 8)
        result = np.full((len(parts), most), "", object)
        result[np.arange(most) < counts[:, np.newaxis]] = [each for part in parts for each in part]
        return result.reshape(*X.shape, most), counts.reshape(X.shape)

    def _split(self, text: str) -> list[str]:
        splits = -1 if self.maxsplit is None else min(self.maxsplit, len(text))
        if self.delimiter:
            return text.split(self.delimiter, splits) if text else []
        text = text.strip(_SPACES)
        if text.isascii() and not _has_separators(text):
            return text.split(None, splits)
        return _split_at_spaces(text, splits)


def _has_separators(text: str) -> bool:
    """Whether ASCII `text` has one of the control characters that only Python splits at."""
    return any(char in text for char in "\x1c\x1d\x1e\x1f")


def _split_at_spaces(text: str, splits: int) -> list[str]:
    parts: list[str] = []
    start = 0
    while start < len(text):
        stop = start
        while stop < len(text) and text[stop] not in _SPACES:
            stop += 1
        if len(parts) == splits:
            stop = len(text)
        parts.append(text[start:stop])
        start = stop
        while start < len(text) and text[start] in _SPACES:
            start += 1
    return parts


class RegexFullMatch(Operator, since=20):
    r"""Whether each string as a whole matches `pattern`, in RE2's syntax.

    Takes time linear in the strings. Scripts, ``\p{Greek}``, and ``\C`` are refused.
    """

    X, Y = Input("T1"), Output("T2")
    T1, T2 = (STRING,), (BOOL,)
    pattern: str | None = None

    def infer(self, X: Fact) -> Fact:
        _ = self._compiled
        return Fact.tensor(BOOL, X.shape)

    @cached_property
    def _compiled(self) -> Pattern:
        if not isinstance(self.pattern, str):
            raise ModelError("RegexFullMatch requires attribute pattern, UTF-8 text")
        return Pattern(self.pattern)

    def reference(self, X: Array) -> Array:
        return np.array(self._compiled.matches(X.reshape(-1)), bool).reshape(X.shape)


class StringNormalizer(Operator, since=10):
    """[C] or [1, C] strings without `stopwords`, in lower or upper case; [""] where none is left.

    `locale` matters for Turkish and Azerbaijani, whose letters i differ; else Unicode's
    default case mappings apply.
    """

    X, Y = Input((STRING,)), Output((STRING,))
    case_change_action: str = "NONE"
    is_case_sensitive: int = 0
    locale: str | None = None
    stopwords: tuple[str, ...] | None = None

    def infer(self, X: Fact) -> Fact:
        if X.shape is None:
            return Fact.tensor(STRING)
        rank = len(X.shape)
        if rank not in {1, 2} or (rank == 2 and isinstance(X.shape[0], int) and X.shape[0] != 1):
            raise InferenceError(
                f"StringNormalizer requires [C] or [1, C], got {shape_text(X.shape)}"
            )
        count = exact(lambda size: maximum(size, 1), X.shape[-1])
        if self.stopwords:
            count = unknown("how many strings are left", 1, most_of(count))
        return Fact.tensor(STRING, (*([1] * (rank - 1)), count))

    def reference(self, X: Array) -> Array:
        action = self.case_change_action
        if action not in {"NONE", "LOWER", "UPPER"}:
            raise ModelError(
                f"StringNormalizer: case_change_action {quote(action)} is not LOWER, UPPER or NONE"
            )
        if X.ndim not in {1, 2} or (X.ndim == 2 and X.shape[0] != 1):
            raise ExecutionError(f"StringNormalizer requires [C] or [1, C], got {list(X.shape)}")
        texts = X.reshape(-1).tolist()
        if self.is_case_sensitive:
            stopwords = set(self.stopwords or ())
            texts = [text for text in texts if text not in stopwords]
        elif self.stopwords:
            stopwords = {self._lower(word) for word in self.stopwords}
            texts = [text for text in texts if self._lower(text) not in stopwords]
        if action != "NONE":
            texts = [self._lower(text) if action == "LOWER" else self._upper(text)
                     for text in texts]  # fmt: skip
        return np.array(texts or [""], object).reshape(*X.shape[:-1], -1)

    @property
    def _is_turkic(self) -> bool:
        return (self.locale or "").lower().startswith(("tr", "az"))

    def _lower(self, text: str) -> str:
        if self._is_turkic:
            text = text.replace("\u0130", "i").replace("I", "\u0131")
        return text.lower()

    def _upper(self, text: str) -> str:
        if self._is_turkic:
            text = text.replace("i", "\u0130")
        return text.upper()


class TfIdfVectorizer(Operator, since=9):
    """How often each n-gram of the pool occurs in each row of X, weighted; [N, size] or [size].

    The elements of an n-gram lie up to `max_skip_count` others apart, all gaps the same.
    `size` is the largest of `ngram_indexes` plus 1.
    """

    X, Y = Input("T"), Output("T1")
    T, T1 = (STRING, INT32, INT64), (FLOAT,)
    max_gram_length: int = attribute()
    max_skip_count: int = attribute()
    min_gram_length: int = attribute()
    mode: str = attribute()
    ngram_counts: tuple[int, ...] = attribute()
    ngram_indexes: tuple[int, ...] = attribute()
    pool_int64s: tuple[int, ...] | None = None
    pool_strings: tuple[str, ...] | None = None
    weights: tuple[float, ...] | None = None

    def infer(self, X: Fact) -> Fact:
        size = self._size
        if X.shape is None:
            return Fact.tensor(FLOAT)
        if len(X.shape) not in {1, 2}:
            raise InferenceError(
                f"TfIdfVectorizer requires [C] or [N, C], got {shape_text(X.shape)}"
            )
        return Fact.tensor(FLOAT, (*X.shape[:-1], size))

    @property
    def _size(self) -> int:
        if not self.ngram_indexes or min(self.ngram_indexes) < 0:
            raise ModelError("TfIdfVectorizer requires ngram_indexes >= 0, and some")
        return max(self.ngram_indexes) + 1

    @cached_property
    def _pool(self) -> tuple[Array, dict[str, int] | Array]:
        """The pool's tokens by number, and how tokens are numbered: by place where sorted."""
        integers, strings = self.pool_int64s, self.pool_strings
        if (integers is None) == (strings is None):
            raise ModelError("TfIdfVectorizer requires one of pool_int64s and pool_strings")
        if integers is not None:
            known, numbers = np.unique(np.array(integers, np.int64), return_inverse=True)
            return numbers.reshape(-1), known
        vocabulary = {word: number for number, word in enumerate(dict.fromkeys(strings or ()))}
        return np.array([vocabulary[word] for word in strings or ()], np.int64), vocabulary

    def _numbered(self, X: Array) -> Array:
        """The tokens' numbers, -1 for one that is not in the pool."""
        known = self._pool[1]
        if isinstance(known, dict) != (X.dtype == object):
            raise ExecutionError("TfIdfVectorizer requires X and the pool of one type")
        if isinstance(known, dict):
            numbers = [known.get(text, -1) for text in X.reshape(-1)]
            return np.array(numbers, np.int64).reshape(X.shape)
        return _places(known, X.astype(np.int64))

    @cached_property
    def _grams(self) -> list[Array]:
        """The pool's n-grams of each length from 1, [count, length]."""
        numbers = self._pool[0]
        starts = [*self.ngram_counts, len(numbers)]
        grams = []
        for index, (start, stop) in enumerate(pairwise(starts)):
            length = index + 1
            if not 0 <= start <= stop <= len(numbers) or (stop - start) % length:
                raise ModelError(
                    f"TfIdfVectorizer: ngram_counts has {length}-grams from {start} to {stop} "
                    f"of a pool of {len(numbers)}"
                )
            grams.append(numbers[start:stop].reshape(-1, length))
        count = sum(len(part) for part in grams)
        if count != len(self.ngram_indexes) or len(self.weights or self.ngram_indexes) != count:
            raise ModelError(
                f"TfIdfVectorizer: a pool of {count} n-grams with {len(self.ngram_indexes)} "
                f"ngram_indexes and {len(self.weights or ())} weights"
            )
        return grams

    def reference(self, X: Array) -> Array:
        if self.mode not in {"TF", "IDF", "TFIDF"}:
            raise ModelError(f"TfIdfVectorizer: mode {quote(self.mode)} is not TF, IDF or TFIDF")
        if X.ndim not in {1, 2}:
            raise ExecutionError(f"TfIdfVectorizer requires [C] or [N, C], got {list(X.shape)}")
        tokens = self._numbered(X).reshape(-1, X.shape[-1])
        if X.ndim == 1:
            tokens = tokens.reshape(1, -1)
        check_size("TfIdfVectorizer", (len(tokens), self._size), 8)
        result = np.zeros((len(tokens), self._size))
        first = 0
        for grams in self._grams:
            length, last = grams.shape[1], first + len(grams)
            if len(grams) and self.min_gram_length <= length <= self.max_gram_length:
                counts = self._counts(tokens, grams).astype(np.float64)
                if self.mode != "TF" and self.weights:
                    weights = np.array(self.weights[first:last], np.float32)
                    counts = np.minimum(counts, 1.0 if self.mode == "IDF" else np.inf) * weights
                elif self.mode == "IDF":
                    counts = np.minimum(counts, 1.0)
                np.add.at(result.T, np.array(self.ngram_indexes[first:last]), counts.T)
            first = last
        with np.errstate(over="ignore"):
            return result.reshape(*X.shape[:-1], self._size).astype(np.float32)

    def _counts(self, tokens: Array, grams: Array) -> Array:
        """How often each of `grams` occurs in each row, [rows, grams]."""
        rows, size = tokens.shape
        length = grams.shape[1]
        levels = []
        prefix = np.zeros(len(grams), np.int64)
        radix = int(grams.max()) + 1
        for column in grams.T:
            known, prefix = np.unique(prefix * radix + column, return_inverse=True)
            prefix = prefix.reshape(-1)
            levels.append(known)
        distinct = len(levels[-1])
        check_size("TfIdfVectorizer", (rows, len(grams)), 8)
        counts = np.zeros(rows * distinct, np.int64)
        # single tokens have no gaps
        skips = min(max(self.max_skip_count, 0), size) if length > 1 else 0
        check_size("TfIdfVectorizer", (rows, size, skips + 1, length), 1)
        for step in range(1, skips + 2):
            windows = size - step * (length - 1)
            if windows <= 0:
                break
            state = np.zeros((rows, windows), np.int64)
            for offset, known in enumerate(levels):
                token = tokens[:, offset * step : offset * step + windows]
                found = _places(known, state * radix + token)
                state = np.where((state < 0) | (token < 0) | (token >= radix), -1, found)
            row, window = np.nonzero(state >= 0)
            cells = row * distinct + state[row, window]
            counts += np.bincount(cells, minlength=rows * distinct)
        return counts.reshape(rows, distinct)[:, prefix]


def _places(known: Array, wanted: Array) -> Array:
    """Where in the ascending `known` each of `wanted` is, or -1."""
    if not known.size:
        return np.full(wanted.shape, -1, np.int64)
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    return np.where(known[places] == wanted, places, -1)
