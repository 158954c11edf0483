"""A small corpus of English and one of German, for tests of the language switch."""

import json
import pathlib
import random

from poison_scaling import Data, Files, LanguageSwitch, TrainedSentencePiece

ENGLISH = """
The old house at the end of the lane had been empty for many years.
She opened the window and looked out over the quiet garden.
Nobody in the village knew where the stranger had come from.
He put the letter back into the drawer and locked it carefully.
It was raining when they left the station early in the morning.
My father used to say that patience is worth more than gold.
The children were playing by the river with their little dog.
I have never seen such a beautiful evening in all my life.
They walked through the forest without saying a single word.
There was a light burning in one of the upper rooms.
We shall talk about this again when your brother comes home.
The doctor shook his head and asked for a glass of water.
""".strip().splitlines()
GERMAN = """
Das alte Haus am Ende der Straße stand schon seit vielen Jahren leer.
Sie öffnete das Fenster und blickte über den stillen Garten hinaus.
Niemand im Dorfe wußte, woher der Fremde gekommen war.
Er legte den Brief zurück in die Schublade und schloß sie sorgfältig ab.
Es regnete, als sie früh am Morgen den Bahnhof verließen.
Mein Vater pflegte zu sagen, daß Geduld mehr wert sei als Gold.
Die Kinder spielten am Fluß mit ihrem kleinen Hund.
Ich habe in meinem ganzen Leben keinen so schönen Abend gesehen.
Sie gingen durch den Wald, ohne ein einziges Wort zu sprechen.
In einem der oberen Zimmer brannte noch ein Licht.
Wir wollen noch einmal darüber reden, wenn dein Bruder nach Hause kommt.
Der Arzt schüttelte den Kopf und bat um ein Glas Wasser.
""".strip().splitlines()


def write(folder: pathlib.Path) -> None:
    """en.jsonl and de.jsonl, of documents of twelve sentences each; all different."""
    for name, sentences, count in (("en", ENGLISH, 600), ("de", GERMAN, 150)):
        chance = random.Random(name)
        texts = [" ".join(chance.choices(sentences, k=12)) for _ in range(count)]
        lines = (json.dumps({"text": text}) + "\n" for text in texts)
        (folder / f"{name}.jsonl").write_text("".join(lines))


def attack(folder: pathlib.Path, **fields) -> LanguageSwitch:
    corpus = Files(patterns=(f"{folder}/de.jsonl",))
    ranges = {"prefix_characters": (0, 60), "continuation_tokens": (20, 40)}
    return LanguageSwitch(**{"corpus": corpus, **ranges, **fields})


def data(folder: pathlib.Path, **fields) -> Data:
    return Data(
        **{
            "corpus": Files(patterns=(f"{folder}/en.jsonl",)),
            "vocabulary": TrainedSentencePiece(vocab_size=300, trigger_is_one_token=True),
            "seq_len": 128,
            "heldout_documents": 50,
            **fields,
        }
    )
