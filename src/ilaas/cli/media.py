"""`ilaas media`: send recordings to the speech service, watch them, and fetch what came out."""

from __future__ import annotations

import time
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from ilaas.cli.options import AsJson, ConfigFile, StateDir, examples
from ilaas.cli.output import print_json, print_table, say

if TYPE_CHECKING:
    from ilaas.cli.media_api import MediaApi

app = typer.Typer(
    name="media",
    help="Send media to the speech service: transcripts, translations, title, keywords, quiz, notes.",
    epilog=examples("ilaas media send lecture.mp4 --translate-to en --notes", "ilaas media download ID --format vtt"),
    no_args_is_help=True,
)

MEDIA_TYPES = ("Cours", "Conférence", "Tutoriel", "Entretien", "Réunion", "Autre")
DISCIPLINES = (
    "Arts, lettres et langues",
    "Droit",
    "Économie et gestion",
    "Sciences humaines et sociales",
    "Sciences et technologies",
    "Santé",
    "Sport",
    "Autre",
)
POLL_S = 1.0


class Form(StrEnum):
    """What can be fetched."""

    VTT = "vtt"
    SRT = "srt"
    TXT = "txt"
    JSON = "json"
    NOTES = "notes"


@app.command(
    epilog=examples(
        "ilaas media send lecture.mp4",
        "ilaas media send https://pod.example.fr/media/lecture.mp3 --language fr --translate-to en",
    )
)
def send(
    source: Annotated[str, typer.Argument(help="A video, audio or subtitle file, or the address of one.")],
    *,
    language: Annotated[str | None, typer.Option(help="Of the media: fr, en. Else as it is heard.")] = None,
    translate_to: Annotated[str | None, typer.Option(help="Translate everything: fr, en.")] = None,
    metadata: Annotated[bool, typer.Option(help="Title, description, keywords.")] = True,
    quiz: Annotated[bool, typer.Option(help="Multiple-choice questions.")] = True,
    notes: Annotated[bool, typer.Option("--notes", help="Notes in Markdown.")] = False,
    evaluate: Annotated[bool, typer.Option("--evaluate", help="Let a model judge the quiz.")] = False,
    discipline: Annotated[list[str] | None, typer.Option(help="To choose from; may be repeated.")] = None,
    media_type: Annotated[list[str] | None, typer.Option(help="To choose from; may be repeated.")] = None,
    webhook: Annotated[str | None, typer.Option(help="Address to notify.")] = None,
    wait: Annotated[bool, typer.Option(help="Show the progress until it is done.")] = True,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> int:
    """Send a media and watch it through its steps.

    The API client is that of ILAAS_STT_CLIENT_ID and ILAAS_STT_CLIENT_SECRET, the address that of ILAAS_STT_URL;
    on the machine of a demo, its own.
    """
    from ilaas.cli.media_api import file_of, is_url, parameters_of

    parameters = parameters_of(
        {
            "language": language,
            "translateTo": translate_to,
            "generateMetadata": metadata,
            "generateQuiz": quiz,
            "generateNotes": notes,
            "aiEvaluation": "ChatGPT" if evaluate else None,
            "disciplines": list(discipline or DISCIPLINES),
            "mediaTypes": list(media_type or MEDIA_TYPES),
        }
    )
    with _api(state_dir, config) as api:
        if is_url(source):
            enrichment_id = api.send_url(source, parameters, webhook)
        else:
            path = file_of(source)
            with path.open("rb") as file:
                enrichment_id = _upload(path, file, lambda given: api.send_file(path.name, given, parameters, webhook))
        if not wait:
            print_json({"id": enrichment_id}) if as_json else print(enrichment_id)
            return 0
        say(f"Media {enrichment_id}")
        return _watched(api, enrichment_id, parameters, as_json=as_json)


@app.command("list", epilog=examples("ilaas media list --count 5"))
def list_(
    *,
    count: Annotated[int, typer.Option(min=1, max=1000, help="How many, the newest first.")] = 20,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """The media of this API client."""
    with _api(state_dir, config) as api:
        found = api.enrichments(count)
    if as_json:
        print_json(found)
        return
    rows = [
        (
            each["id"],
            each["createdAt"][:16].replace("T", " "),
            each["status"],
            _name(each),
            each["mediaDurationInSeconds"],
        )
        for each in found
    ]
    print_table(
        ("id", "created", "status", "file", "seconds"), rows, "There are no media yet: 'ilaas media send FILE'."
    )


@app.command(epilog=examples("ilaas media show ID --wait"))
def show(
    enrichment_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    wait: Annotated[bool, typer.Option("--wait", help="Show the progress until it is done.")] = False,
    as_json: AsJson = False,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> int:
    """One media: where it is, and what came out."""
    with _api(state_dir, config) as api:
        found = api.enrichment(enrichment_id)
        if wait and found["status"] not in {"SUCCESS", "FAILURE"}:
            asked = {
                "generateMetadata": True,
                "translateTo": found["translateTo"],
                "aiEvaluation": found["aiEvaluation"],
            }
            return _watched(api, enrichment_id, asked, as_json=as_json)
        _show(api, found, as_json=as_json)
    return 0


@app.command(epilog=examples("ilaas media download ID --format srt --language en -o lecture.en.srt"))
def download(
    enrichment_id: Annotated[str, typer.Argument(metavar="ID")],
    *,
    form: Annotated[Form, typer.Option("--format", help="What is wanted.")] = Form.VTT,
    language: Annotated[str | None, typer.Option(help="The original's or the translation's.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="File to write; else standard output.")] = None,
    state_dir: StateDir = None,
    config: ConfigFile = None,
) -> None:
    """Subtitles, text, notes, or everything as JSON."""
    with _api(state_dir, config) as api:
        text = _fetched(api, enrichment_id, form, language)
    if output is None:
        print(text, end="" if text.endswith("\n") else "\n")
    else:
        output.write_text(text, "utf-8")
        say(f"Wrote {output}")


@app.command(epilog=examples("ilaas media delete ID"))
def delete(
    enrichment_id: Annotated[str, typer.Argument(metavar="ID")], state_dir: StateDir = None, config: ConfigFile = None
) -> None:
    """Delete a media and all that came out of it; work under way stops."""
    with _api(state_dir, config) as api:
        api.delete(enrichment_id)
    say(f"Deleted {enrichment_id}")


# -- the parts ---------------------------------------------------------------------------------------------------------


def _api(state_dir: Path | None, config: Path | None) -> MediaApi:
    from ilaas.cli.media_api import MediaApi, find_access
    from ilaas.cli.place import find_place

    return MediaApi(find_access(find_place(state_dir, config)))


def _upload(path: Path, file: BinaryIO, send_file: Callable[[BinaryIO], str]) -> str:
    from rich.progress import wrap_file

    with wrap_file(file, path.stat().st_size, description=f"sending {path.name}", transient=True) as given:
        return send_file(given)


def _watched(api: MediaApi, enrichment_id: str, parameters: dict[str, Any], *, as_json: bool) -> int:
    """The bar until it is done; 1 when it failed."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from ilaas.cli.media_progress import progress_of, shown_seconds, stages_asked

    asked = stages_asked(parameters)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, TextColumn("{task.fields[left]}"), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("waiting", total=1.0, left="")
        status, since = "", time.monotonic()
        while True:
            found = api.enrichment(enrichment_id)
            if found["status"] != status:
                status, since = found["status"], time.monotonic()
            now = progress_of(found, asked, time.monotonic() - since)
            left = "" if now.left_s is None else f"{shown_seconds(now.left_s)} left"
            bar.update(task, completed=now.share, description=now.what, left=left)
            if now.left_s is None:
                break
            time.sleep(POLL_S)
    _show(api, found, as_json=as_json)
    return 0 if status == "SUCCESS" else 1


def _show(api: MediaApi, found: dict[str, Any], *, as_json: bool) -> None:
    version = api.latest(found["id"]) if found["lastVersionId"] else None
    if as_json:
        print_json({"enrichment": found, "version": version})
        return
    metadata = (version or {}).get("enrichmentVersionMetadata") or {}
    rows: list[tuple[str, object]] = [
        ("id", found["id"]),
        ("file", _name(found)),
        ("status", found["status"]),
        ("cause", found["failureCause"]),
        ("seconds", found["mediaDurationInSeconds"]),
        ("title", metadata.get("title")),
        ("keywords", ", ".join(metadata.get("topics") or ()) or None),
        ("discipline", metadata.get("discipline")),
    ]
    if version is not None:
        transcript = version.get("transcript") or {}
        rows += [
            ("language", transcript.get("language")),
            ("translation", version.get("translateTo")),
            ("questions", len(version.get("multipleChoiceQuestions") or ())),
            ("text", (transcript.get("text") or "")[:200]),
        ]
    print_table(("", ""), [row for row in rows if row[1] is not None], "")
    if found["status"] == "SUCCESS":
        say(f"Subtitles: ilaas media download {found['id']} --format vtt")


def _name(found: dict[str, Any]) -> str | None:
    return (found.get("media") or {}).get("originalFileName")


def _fetched(api: MediaApi, enrichment_id: str, form: Form, language: str | None) -> str:
    import json

    version = api.latest(enrichment_id)
    if form in (Form.VTT, Form.SRT):
        return api.subtitles(enrichment_id, version["id"], form.value, language)
    if form is Form.JSON:
        return json.dumps(version, ensure_ascii=False, indent=2) + "\n"
    translated = language is not None and language == version.get("translateTo")
    if form is Form.NOTES:
        return str(version["translatedNotes" if translated else "notes"] or "")
    return str(version["transcript"]["translatedText" if translated else "text"] or "")
