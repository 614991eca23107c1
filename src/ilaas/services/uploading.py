"""The form with a recording that a server gets."""

from __future__ import annotations

from ilaas.core.audio import fields_for, file_for
from ilaas.core.forms import form_after, form_before
from ilaas.ports.upload import ReceivedForm, UpstreamUpload


def upload_for(form: ReceivedForm, served_name: str, stall_s: float) -> UpstreamUpload | None:
    """With the server's own name of the model. None: the form has no recording."""
    if form.recording is None:
        return None
    return UpstreamUpload(
        b"multipart/form-data; boundary=" + form.boundary,
        form_before(fields_for(form.fields, served_name), file_for(form.recording.file), form.boundary),
        form.file,
        form_after(form.boundary),
        stall_s,
    )
