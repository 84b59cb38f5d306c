"""`GET /v1/bugs`, `POST /v1/bugs`."""

from flask import Blueprint, Response, request

from schemas.bugs import BugsAnswer, CatalogueOfBugs
from schemas.writing import written
from service.bugs import bugs, catalogue
from service.checking import language
from service.http.answers import held_answer, json_answer
from service.http.body import JSON, body_of, negotiate
from service.http.catalogue import examples
from service.http.held import answering
from service.http.limits import limits
from service.http.operation import BODY_FORMS, PROBLEMS_OF_WORK, Operation, documented
from service.http.slots import admitted
from service.http.timing import timed

blueprint = Blueprint("bugs", __name__)


@blueprint.get("/v1/bugs")
@documented(Operation("List the bugs that a check names", answer=CatalogueOfBugs))
def get_bugs() -> Response:
    """Answer with every bug of the catalogue, and what it looks like."""
    return json_answer(catalogue())


@blueprint.post("/v1/bugs")
@documented(
    Operation(
        "List the bugs that a model can have, or plant one",
        answer=BugsAnswer,
        body=language.OfBugs,
        problems=PROBLEMS_OF_WORK,
        examples=examples,
        body_forms=BODY_FORMS,
    )
)
def post_bugs() -> Response:
    """Answer with the bugs, and with the gradients that one of them makes if it is named."""
    negotiate(request, JSON)
    with answering() as held, body_of(request, JSON, *BODY_FORMS) as body, timed(), admitted():
        return held_answer(written(bugs(body.parsed(), limits())), JSON, held)
