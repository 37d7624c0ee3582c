"""x"""

from __future__ import annotations


def starter(name: str) -> str:
    """x"""
    return ""
