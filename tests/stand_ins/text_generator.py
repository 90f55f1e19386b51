"""A generator that says what it is told to, and remembers its prompts."""

from regap_benchmarks.judges.text_generator import Generated, TextGenerator


class Scripted(TextGenerator):
    """Answers in turn; a text alone stands for one without probabilities."""

    def __init__(self, *texts, special=("<s>", "</s>", "<|eot|>"), context=10_000):
        self._texts = list(texts)
        self._special = special
        self._context = context
        self.prompts = []

    def describe(self):
        return {"scripted": True}

    def render(self, turns, pictures=0):
        said = "".join(f"<{role}>{text}</{role}>\n" for role, text in turns)
        listed = "<BEGIN UNSAFE CONTENT CATEGORIES>\nS1: Loud Noise.\nS2: Bad Manners.\n"
        return f"{listed}<END UNSAFE CONTENT CATEGORIES>\n{said}"

    def generate(self, prompts, *, most_tokens, words=(), pictures=()):
        self.prompts += prompts
        found = [self._texts.pop(0) for _ in prompts]
        return [each if isinstance(each, Generated) else Generated(each) for each in found]

    def cut(self, text, tokens):
        return " ".join(text.split()[:tokens]) if len(text.split()) > tokens else text

    def excess(self, prompt, most_tokens, pictures=()):
        return max(len(prompt) + most_tokens - self._context, 0)

    def special_texts(self):
        return self._special
