"""The speech API, `/api/…`: transcription and enrichment of media, as deployed clients (ESUP-Pod, Nudgis) know it.

Thin over `services.enrichment`, which decides. Its description is at `/api/doc.json`, for people at `/api/doc`.
"""

from ilaas.http.stt_api.app import SttApi, build_stt_app

__all__ = ["SttApi", "build_stt_app"]
