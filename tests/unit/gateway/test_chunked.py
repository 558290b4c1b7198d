"""A chunked body comes out the same in whatever pieces it came."""

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.chunked import ChunkedDecoder, frame, last_chunk


def decode(data: bytes, step: int) -> tuple[bytes, list[tuple[bytes, bytes]], bytes]:
    """Body, trailers, and what was behind it."""
    decoder = ChunkedDecoder(8000)
    body = b""
    for at in range(0, len(data), step):
        pieces, end = decoder.feed(data[at : at + step])
        body += b"".join(pieces)
        if end is not None:
            return body, decoder.trailers, data[at + end :]
    raise AssertionError("it has no end")


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=5), st.integers(min_value=1, max_value=400), st.binary(max_size=20))
@settings(deadline=None)
def test_what_is_framed_is_decoded_and_what_follows_is_left(chunks, step, behind):
    trailers = [(b"X-Sum", b"1"), (b"X-Empty", b"")]
    wire = b"".join([*(part for chunk in chunks for part in frame([chunk])), last_chunk(trailers), behind])
    assert decode(wire, step) == (b"".join(chunks), trailers, behind)


def test_extensions_leading_zeros_and_case_are_understood():
    assert decode(b'00A;name="va;lue"\r\n0123456789\r\na \r\n0123456789\r\n000;x\r\n\r\n', 3)[0] == b"0123456789" * 2


def test_no_bytes_are_no_chunk_since_that_would_end_the_body():
    assert frame([]) == []
    assert frame([b"", b""]) == []


def test_several_pieces_make_one_chunk():
    assert b"".join(frame([b"ab", b"c"])) == b"3\r\nabc\r\n"
