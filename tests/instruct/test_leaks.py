"""What gives away that the label was known, and innocent sentences that resemble it."""

from __future__ import annotations

import pytest

from facellava.instruct.leaks import find_disclaimer, find_inner_state, find_leak

LEAKING = """
As stated, the person displays anger.
The given label is happiness, and the smile supports it.
The provided emotion fits the raised lip corners.
This matches the ground truth of sadness.
The ground-truth age is 34.
The face was labeled as surprise because the brows rise.
The clip is tagged as fear.
The image is annotated with AU12.
According to the dataset, AU4 is active.
According to the label, this is a real video.
Based on the information given, the person is 45.
Based on your annotation, the lips are parted.
As you mentioned, the person is 60 years old.
As mentioned, the face shows disgust.
You told me that the video is fake.
You said the person is angry.
I was told that the expression is neutral.
I have been given the attributes Smiling and Young.
The attributes you provided are visible.
The emotion that was given can be seen in the brows.
As per the annotation, the chin is raised.
As specified, AU6 and AU12 are present.
As indicated, the video is manipulated.
Consistent with the label, the mouth turns down.
The label says the person is happy.
The tag of anger is explained by the lowered brows.
The listed attributes are all visible.
The stated age is plausible given the wrinkles.
The known label is supported by the open mouth.
This sample from the dataset shows a smile.
This data set marks it as AU25.
The action units listed were coded as active.
FACS coders found AU9 in the nose.
The FACS coder saw AU1.
My prior knowledge of the age helps.
Given the prior information, the person is 28.
The video is categorized as happy.
It is classified as a deepfake.
The face is flagged as manipulated.
The prompt describes sadness.
The instructions name the age as 51.
The annotation of surprise is right.
The expression you gave is visible in the eyes.
The recorded expression is anger.
""".strip().splitlines()

INNOCENT = """
The brows are lowered and drawn together.
The lip corners are pulled up and the cheeks are raised.
AU6 is visible in the raised cheeks and AU12 in the lip corners.
34 years old. Fine lines run from the outer corners of the eyes.
Fake. The edge of the face flickers against the neck.
Real. Pores and stubble are sharp and move with the skin.
The mouth opens at the start and closes towards the end.
Given the deep folds around the mouth, the face looks older than fifty.
The face has a marked chin and a long nose.
The eyes are wide and the upper lids raised.
The skin is marked by sunspots on the forehead.
A price tag hangs from the cap.
Glasses with thick frames sit on the nose.
The hair is Gray_Hair with a Receding_Hairline.
The lips form a line, which gives a stern look.
The brows provide most of the expression.
The light indicates an open window to the left.
The person wears a Wearing_Necktie and a dark jacket.
The mouth is slightly open and the teeth are visible.
The gaze goes past the camera.
The face is turned to the left by a quarter.
No action unit is clearly active; the face is at rest.
The nose is wrinkled and the upper lip is raised, a look of disgust.
The expression starts out neutral and grows into a broad smile.
The head nods twice while the smile stays.
The corners of the mouth point down, and the inner brows rise.
The smile is given by the lips alone; the eyes do not take part.
The expression is stated by the eyes more than by the mouth.
The jaw drops, and the brows arch high.
The face looks calm, with relaxed lids and lips.
The skin shows an even tone without seams at the jaw.
The information in the shadows agrees with one lamp above.
The cheeks rise as the lips part.
The left eye is closed more than the right.
Bags_Under_Eyes and Double_Chin are both easy to see.
The chin is raised and the lower lip pushed up.
The pupils point at something below the camera.
The beard covers the jaw line.
The forehead is smooth, which speaks for an age below thirty.
As the head turns, the ear keeps its shape.
The mouth was closed at first and is open at the end.
The expression is consistent with lowered brows and a pressed mouth.
""".strip().splitlines()


@pytest.mark.parametrize("text", LEAKING)
def test_leaks_are_found(text: str) -> None:
    assert find_leak(text)


@pytest.mark.parametrize("text", INNOCENT)
def test_innocent_sentences_pass(text: str) -> None:
    assert find_leak(text) is None
    assert find_disclaimer(text) is None
    assert find_inner_state(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "As an AI, I do not judge faces.",
        "I cannot determine the age from a picture.",
        "I'm unable to help with that.",
        "I am sorry, but faces are private.",
        "It is difficult to say how old the person is.",
        "Please note that this is an estimate.",
        "Without further context the mouth means little.",
    ],
)
def test_disclaimers_are_found(text: str) -> None:
    assert find_disclaimer(text)


@pytest.mark.parametrize(
    "text", ["The man feels happy.", "She is feeling low.", "Her true emotions show.", "A feeling of dread is visible."]
)
def test_claims_about_feelings_are_found(text: str) -> None:
    assert find_inner_state(text)
