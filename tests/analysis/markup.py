"""Pages as a reader sees them: the text and the elements of HTML, and of Markdown once it is rendered."""

from html.parser import HTMLParser

from markdown_it import MarkdownIt

_MARKDOWN = MarkdownIt("commonmark").enable(["table", "strikethrough"])


class Page(HTMLParser):
    """Text outside of <style>, and the elements with their attributes, in order."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.elements, self.others = "", [], []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_data(self, data):
        if not self.elements or self.elements[-1][0] != "style":
            self.text += data

    def handle_comment(self, data):
        self.others.append(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def page_of(markdown: str) -> Page:
    return Page(f"<body>{_MARKDOWN.render(markdown)}</body>")


def rendered(markdown: str) -> str:
    """The text that a reader of Markdown sees."""
    return page_of(markdown).text
