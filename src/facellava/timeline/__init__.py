"""Long videos: what each face displays, window by window, in as much memory as one window takes.

    for window in facellava.watch("meeting.mp4"):
        for face in window.faces:
            print(window.start, face.id, face.expression.label)

``watch`` gives results as they come; ``record`` keeps them in a folder, goes on where it was stopped, and ends with
tables and a summary in words.
"""

from facellava.timeline.record import record
from facellava.timeline.summary import Summary
from facellava.timeline.watch import Asked, WindowResult, watch

__all__ = ["Asked", "Summary", "WindowResult", "record", "watch"]
