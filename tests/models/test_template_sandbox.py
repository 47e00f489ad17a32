"""Chat templates render as in transformers, and a hostile one is rejected within its budget."""

import pytest
from jinja2 import TemplateError
from transformers.utils.chat_template_utils import render_jinja_template

from ragkit.models._template_sandbox import render

CHATML = """{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system
You are helpful<|im_end|>
' }}{% endif %}{{'<|im_start|>' + message['role'] + '
' + message['content'] + '<|im_end|>' + '
'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant
' }}{% endif %}"""
LLAMA = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
{{- "<|start_header_id|>system\\n" ~ system_message ~ "<|eot_id|>" }}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif message.tool_calls|length != 1 %}
        {{- raise_exception("one tool call at a time") }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}"""
QWEN = """{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and not(message.content.startswith('<tool_response>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.role == "assistant" %}
        {%- set content = message.content.split('</think>')[-1].lstrip('\\n') if '</think>' in message.content
            else message.content %}
        {%- if loop.index0 > ns.last_query_index %}{%- continue %}{%- endif %}
        {{- '<|im_start|>' + message.role + '\\n' + content }}
    {%- else %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- endif %}
{%- endfor %}"""
GEMMA = """{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}
{% for message in messages %}
{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}
{{ raise_exception('Conversation roles must alternate') }}
{% endif %}
{% set role = 'model' if (message['role'] == 'assistant') else message['role'] %}
{{ '<start_of_turn>' + role + '
' + message['content'] | trim + '<end_of_turn>
' }}{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model
'}}{% endif %}"""
MACROS = """{%- macro turn(message, index=1, last=false) -%}
[{{ index }}{{ '!' if last }}] {{ message | tojson(indent=2) }} {{ {'a': [1, (2, 3)], 'role': message.role} | tojson }}
{%- endmacro -%}
{%- for message in messages %}{{ turn(message, loop.index, last=loop.last) }};{% endfor %}
{%- for role, group in messages|groupby('role') %}{{ role ~ ':' ~ group|map(attribute='content')|join('|')|upper }}
{%- if loop.index > 1 %}{% break %}{% endif %}{% endfor %}
{{ '%s and %05d' % ('a', 7) }} {{ '{:>8}|{x}'.format('b', x=none) }} {{ 7 // 2 * 3 - 1 + 2 ** 5 }} {{ undefined_name }}
{{ messages|selectattr('role', 'equalto', 'user')|list|length }} {{ 'a-b'.replace('-', '+')|replace('a', 'c') }}
{% set pair = (1, 'x') %}{% set first, second = pair %}{{ first }}{{ second }}{{ [1, 'é<'] }}{{ true }}{{ none }}
{% for key, value in {'k': 'v'}.items() %}{{ key }}={{ value|e }}{% endfor %}{{ dict(a=1) }}{{ range(3)|list }}
{% generation %}{{ messages[-1].content }}{% endgeneration %}{{ messages|map('length')|sum }}{{ 'word ' * 3 }}"""
CONVERSATIONS = [
    [("user", "hello <b> é ")],
    [("system", " be brief\n"), ("user", "a"), ("assistant", "<think>x</think>\n\nb"), ("user", "c " * 500)],
    [("user", "a"), ("user", "b")],
    [("assistant", "b"), ("user", "{{ messages }}"), ("assistant", "")],
]


def outcome(work):
    try:
        return work()
    except TemplateError as error:
        return f"rejected: {error}"


@pytest.mark.parametrize("template", [CHATML, LLAMA, QWEN, GEMMA, MACROS], ids="clqgm")
def test_templates_render_as_in_transformers(template):
    for turns in CONVERSATIONS:
        messages = [{"role": role, "content": content} for role, content in turns]
        variables = {"bos_token": "<s>", "add_generation_prompt": True}
        expected = outcome(lambda: render_jinja_template([messages], chat_template=template, **variables)[0][0])  # noqa: B023
        assert outcome(lambda: render(template, messages, variables=variables)) == expected  # noqa: B023


def test_long_conversations_fit_the_budget():
    messages = [{"role": ("user", "assistant")[turn % 2], "content": f"{turn} " * 500} for turn in range(999)]
    for template in (CHATML, LLAMA, QWEN, GEMMA):
        expected = render_jinja_template([messages], chat_template=template, bos_token="<s>")[0][0]
        assert render(template, messages, variables={"bos_token": "<s>"}) == expected


def test_one_long_message_fits_the_budget():
    messages = [{"role": "user", "content": "lamp </think> " * 200_000}]
    for template in (CHATML, LLAMA, QWEN, GEMMA):
        expected = render_jinja_template([messages], chat_template=template, bos_token="<s>")[0][0]
        assert render(template, messages, variables={"bos_token": "<s>"}) == expected


def test_the_budget_does_not_depend_on_earlier_renderings():
    loop = "{% for i in range(n) %}{{ i }}{% endfor %}"
    for _ in range(3):
        assert render(loop, [], variables={"n": 50_000}).endswith("49999")
        with pytest.raises(TemplateError, match="too often"):
            render(loop * 3, [], variables={"n": 50_000})
