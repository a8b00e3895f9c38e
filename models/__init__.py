"""Methods turn audio and style into motion, renderers turn motion into pictures.

A new method is one file, one line here and one YAML in configs/. The import happens on use, so that what one entry
needs cannot break the others.
"""

from importlib import import_module

METHODS = {
    "headpose": "models.headpose:HeadPose",
    "style_avatar": "models.style_avatar:StyleAvatar",
    "talking_style": "models.talking_style:TalkingStyle",
    "talking_style_paper": "models.talking_style_one_hot:TalkingStylePaper",
}
RENDERERS = {
    "memory_gan": "models.memory_gan:MemoryGan",
    "mesh": "models.mesh_renderer:MeshRenderer",
    "neural_texture": "models.neural_texture:NeuralTexture",
    "style_avatar_renderer": "models.style_avatar_renderer:StyleAvatarRenderer",
}


def find(table, name):
    """The class behind a name of METHODS or RENDERERS."""
    if name not in table:
        raise KeyError(f"{name!r} came, there is {', '.join(sorted(table))}: use one of these names")
    module, cls = table[name].split(":")
    return getattr(import_module(module), cls)
