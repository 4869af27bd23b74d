"""Which pictures are drawn together."""

import asyncio

from optimum_pixart_neuron.serving.server.waiting import Ticket, Waiting
from tests.serving.painter import picture


def taken(pictures, most, *, gone=()):
    """The prompts of the batches that are taken, until nothing waits."""

    async def take():
        waiting = Waiting()
        for one in pictures:
            ticket = Ticket(picture=one, image_format="png")
            waiting.add(ticket)
            if one.prompt in gone:
                ticket.drawn.cancel()
        batches = []
        while batch := waiting.take(most):
            batches.append("".join(ticket.picture.prompt for ticket in batch))
        return batches

    return asyncio.run(take())


def test_the_oldest_is_taken_with_all_of_its_kind():
    pictures = [
        picture("a"),
        picture("b", steps=4),
        picture("c"),
        picture("d", guidance_scale=1.0),
        picture("e", steps=4),
    ]
    assert taken(pictures, 4) == ["ac", "be", "d"]


def test_no_more_are_taken_than_the_programs_hold():
    assert taken([picture(name) for name in "abcdefg"], 3) == ["abc", "def", "g"]


def test_what_nobody_waits_for_is_dropped_and_does_not_decide_the_kind():
    pictures = [picture("a", steps=9), picture("b"), picture("c"), picture("d")]
    assert taken(pictures, 4, gone="ac") == ["bd"]
