"""The face front end: media in, face clips out (decode, detect, track, crop, landmarks).

    media = read_media("clip.mp4")
    for clip in FaceFrontEnd(facellava.weights.resolve).clips(media): ...

Nothing here recognises a person: tracks are joined by place and size.
"""

from facellava.face.backends import FanLandmarker, PrecomputedLandmarks
from facellava.face.cascade import CascadeDetector
from facellava.face.detect import BlazeFaceDetector, Detection, Detector
from facellava.face.frontend import Detected, FaceFrontEnd, Policy
from facellava.face.landmarks import Landmarker, LandmarkResult, MeshLandmarker, blendshape_names
from facellava.face.limits import Limits
from facellava.face.media import read_media
from facellava.face.one_face import OneFace, largest
from facellava.face.pose import Pose
from facellava.face.windows import Window, read_windows

__all__ = [
    "BlazeFaceDetector",
    "CascadeDetector",
    "Detected",
    "Detection",
    "Detector",
    "FaceFrontEnd",
    "FanLandmarker",
    "LandmarkResult",
    "Landmarker",
    "Limits",
    "MeshLandmarker",
    "OneFace",
    "Policy",
    "Pose",
    "PrecomputedLandmarks",
    "Window",
    "blendshape_names",
    "largest",
    "read_media",
    "read_windows",
]
