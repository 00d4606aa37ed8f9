"""Fold the solutions of a notebook, with what they print and draw, until a reader opens them."""

from nbformat import NotebookNode


def fold_solutions(notebook: NotebookNode) -> None:
    """Mark the cells with the tag "solution" as folded, in place, for each program that shows notebooks.

    JupyterLab and VS Code fold the source and the outputs that the entry `jupyter` names. Colab folds the source
    for `cellView`; `collapsed` is what it stores itself when somebody hides an output, as JupyterLab does. Pages
    (GitHub, nbconvert) show all of it: they know no folding.
    """
    for cell in notebook.cells:
        if "solution" in cell.metadata.get("tags", []):
            cell.metadata["jupyter"] = {"source_hidden": True, "outputs_hidden": True}
            cell.metadata["cellView"] = "form"
            cell.metadata["collapsed"] = True
