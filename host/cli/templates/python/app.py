from lmstrix_pack import (
    Pack,
{{#resolver}}
    Param,
{{/resolver}}
)

pack = Pack("{{summary}}")
{{#resolver}}


@pack.prompt(
    "greet",
    "Greets a person",
    params=[
        Param("name", "the person to greet"),
        Param("style", "the style of the greeting", default="friendly"),
    ],
)
def greet(request):
    return f"Write a {request.params['style']} greeting for {request.params['name']}."
{{/resolver}}
{{#processor}}


@pack.processor("upper", "Converts the answer to upper case")
class Upper:
    def push(self, chunk):
        return chunk.upper()
{{/processor}}
